/* The variances w^T S w of a block's kernels w over an input of covariance S, their sum, and the gradients.

   Kernels are rows of `taps` floats, `outputs` rows per group and branch. S is (taps, taps) and symmetric; of symmetric
   products half is computed. A product is made of tiles of TALL x WIDE values, from panels that hold the factors in
   reading order, padded with zeros. The order of sums over taps and rows does not depend on the number of threads. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define TALL 12
#elif defined(__aarch64__)
#define LANES 4
#define TALL 12
#else
#define LANES 8
#define TALL 6
#endif
#define CACHE_LINE 16
#define WIDE (2 * LANES)
#define STEP (44 * TALL) /* rows whose products are summed at a time */
#define EACH_ROW for (int i = 0; i < TALL; i++)

typedef int64_t integer;
typedef float Vector __attribute__((vector_size(sizeof(float) * LANES), aligned(sizeof(float))));
typedef struct {
    Vector row[TALL][2];
} Tile;

typedef struct {
    integer groups, branches, outputs, taps;
} Size;

typedef struct {
    Size size;
    integer wide, tall; /* taps, rounded up to a multiple of WIDE; wide, rounded up to one of TALL */
} Sides;

static integer up_to(integer count, integer multiple) { return (count + multiple - 1) / multiple * multiple; }

static Sides sides_of(const Size *size) {
    integer wide = up_to(size->taps, WIDE);
    return (Sides){*size, wide, up_to(wide, TALL)};
}

/* Floats in a thread's copy of a tile's rows. */
static integer buffer_size(const Sides *s) { return up_to(TALL * s->tall, CACHE_LINE); }

static float *values(integer count) {
    return aligned_alloc(sizeof(float) * CACHE_LINE, sizeof(float) * up_to(count, CACHE_LINE));
}

static integer thread(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Number of tiles of a branch's rows. */
static integer tiles_of(const Sides *s) { return up_to(s->size.outputs, TALL) / TALL; }

static Vector at(const float *x) { return *(const Vector *)x; }

static float sum_of(Vector x) {
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += x[l];
    return sum;
}

static float dot(const float *restrict u, const float *restrict v, integer count) {
    Vector sum = {0};
    integer t = 0;
    for (; t + LANES <= count; t += LANES) sum += at(u + t) * at(v + t);
    float rest = 0;
    for (; t < count; t++) rest += u[t] * v[t];
    return sum_of(sum) + rest;
}

/* The product of a factor (TALL, count), with strides by_row and by_count, and a panel (count, WIDE). */
static inline Tile product(
    const float *restrict factor, integer by_row, integer by_count, const float *restrict panel, integer count) {
    Tile tile;
#pragma GCC unroll 16
    EACH_ROW tile.row[i][0] = tile.row[i][1] = (Vector){0};
    for (integer n = 0; n < count; n++, factor += by_count, panel += WIDE) {
        Vector first = at(panel), second = at(panel + LANES);
#pragma GCC unroll 16
        EACH_ROW {
            tile.row[i][0] += factor[i * by_row] * first;
            tile.row[i][1] += factor[i * by_row] * second;
        }
    }
    return tile;
}

/* Write one panel (wide, WIDE) of S. Folded: values below the diagonal's squares are added to their mirror images, and
   the panel ends with its diagonal square. */
static void covariance_panel(const Sides *s, const float *covariance, integer first, int folded, float *panel) {
    integer taps = s->size.taps, end = folded ? first + WIDE : s->wide;
    for (integer p = 0; p < end; p++)
        for (integer j = first; j < first + WIDE; j++)
            *panel++ = p < taps && j < taps ? covariance[p * taps + j] * (folded && p < first ? 2 : 1) : 0;
}

/* Copy a tile's rows from `start` on, padded to length tall; returns how many there are. */
static int load_rows(const Sides *s, const float *rows, integer start, float *out) {
    integer taps = s->size.taps, left = s->size.outputs - start;
    int loaded = left < TALL ? (int)left : TALL;
    memset(out, 0, sizeof(float) * TALL * s->tall);
    for (int i = 0; i < loaded; i++) memcpy(out + i * s->tall, rows + (start + i) * taps, sizeof(float) * taps);
    return loaded;
}

static void tile_forms(
    const Sides *s, const float *rows, integer start, const float *mean, const float *panels, float *copy, float *means,
    float *variances) {
    integer taps = s->size.taps, spacing = taps;
    const float *source = rows + start * taps;
    int loaded = TALL;
    if (taps != s->wide || start + TALL > s->size.outputs) {
        loaded = load_rows(s, rows, start, copy);
        source = copy;
        spacing = s->tall;
    }
    Vector sums[TALL] = {0};
    for (integer first = 0; first < s->wide; first += WIDE) {
        Tile tile = product(source, spacing, 1, panels + first * s->wide, first + WIDE);
        EACH_ROW {
            const float *row = source + i * spacing + first;
            sums[i] += tile.row[i][0] * at(row) + tile.row[i][1] * at(row + LANES);
        }
    }
    for (int i = 0; i < loaded; i++) {
        means[i] = dot(source + i * spacing, mean, taps);
        variances[i] = sum_of(sums[i]);
    }
}

static double exact_dot(const float *restrict u, const float *restrict v, integer count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (integer t = 0; t < count; t++) sum += (double)u[t] * v[t];
    return sum;
}

/* The forms row by row, for groups of few rows. */
static void group_forms(
    const Size *size, const float *const *rows, integer group, const float *mean, const float *covariance, float *means,
    float *variances) {
    integer taps = size->taps;
    for (integer b = 0; b < size->branches; b++)
        for (integer o = 0; o < size->outputs; o++) {
            const float *row = rows[b] + (group * size->outputs + o) * taps;
            double variance = 0;
            for (integer p = 0; p < taps; p++) variance += row[p] * exact_dot(covariance + p * taps, row, taps);
            *means++ = (float)exact_dot(row, mean, taps);
            *variances++ = (float)variance;
        }
}

/* means w . m and variances w^T S w of every row, (groups, branches, outputs), for mean (groups, taps) and covariance
   (groups, taps, taps). Returns 1 where memory is missing. */
int forms(
    const Size *size, const float *const *rows, const float *mean, const float *covariance, float *means,
    float *variances, int threads) {
    integer taps = size->taps, group_rows = size->branches * size->outputs;
    if (size->groups > 1) {
#pragma omp parallel for num_threads(threads)
        for (integer g = 0; g < size->groups; g++)
            group_forms(
                size, rows, g, mean + g * taps, covariance + g * taps * taps, means + g * group_rows,
                variances + g * group_rows);
        return 0;
    }
    Sides s = sides_of(size);
    integer tiles = tiles_of(&s), panels_end = s.wide * s.wide;
    float *panels = values(panels_end + threads * buffer_size(&s));
    if (!panels) return 1;
#pragma omp parallel num_threads(threads)
    {
        float *buffer = panels + panels_end + thread() * buffer_size(&s);
#pragma omp for
        for (integer first = 0; first < s.wide; first += WIDE)
            covariance_panel(&s, covariance, first, 1, panels + first * s.wide);
#pragma omp for
        for (integer work = 0; work < size->branches * tiles; work++) {
            integer branch = work / tiles, start = work % tiles * TALL, index = branch * size->outputs + start;
            tile_forms(&s, rows[branch], start, mean, panels, buffer, means + index, variances + index);
        }
    }
    free(panels);
    return 0;
}

/* Sum over branches of rows times factors (groups, branches, outputs): (groups, outputs, taps). */
int kernel(const Size *size, const float *const *rows, const float *factors, float *sums, int threads) {
    integer taps = size->taps, outputs = size->outputs;
#pragma omp parallel for num_threads(threads)
    for (integer row = 0; row < size->groups * outputs; row++) {
        const float *factor = factors + row / outputs * size->branches * outputs + row % outputs;
        float *restrict sum = sums + row * taps;
        memset(sum, 0, sizeof(float) * taps);
        for (integer b = 0; b < size->branches; b++) {
            const float *source = rows[b] + row * taps;
            for (integer t = 0; t < taps; t++) sum[t] += factor[b * outputs] * source[t];
        }
    }
    return 0;
}

/* Inputs, results and working memory for the gradients of all rows. */
typedef struct {
    Sides sides;
    const float *const *rows, *grad_weight, *factors, *slopes;
    float *grad_factors, *const *grad_rows;
    float *panels;             /* S as panels */
    float *products;           /* of rows with themselves by their weights, (tall, wide) */
    float *plain, *weighted;   /* a step's rows as panels (STEP, TALL), and times their weights as (STEP, WIDE) */
} Task;

/* Store a row's gradient: 2 weight (w S) + factor grad_weight. */
static void store_row(
    const Vector *tile, float weight, float factor, const float *grad_weight, integer count, float *grad_row) {
    for (integer j = 0; j < count; j += LANES) {
        Vector result = 2 * weight * tile[j / LANES];
        if (count - j >= LANES) {
            *(Vector *)(grad_row + j) = result + factor * at(grad_weight + j);
            continue;
        }
        for (integer l = 0; j + l < count; l++) grad_row[j + l] = result[l] + factor * grad_weight[j + l];
    }
}

/* Compute a tile's gradients, and copy its rows to the panels of their step, from row `index` on. */
static void tile_gradients(const Task *task, integer branch, integer start, integer index, float *buffer) {
    const Sides *s = &task->sides;
    integer taps = s->size.taps, row = branch * s->size.outputs + start;
    const float *grad_weight = task->grad_weight + start * taps;
    float *grad_rows = task->grad_rows[branch] + start * taps, weights[TALL] = {0};
    int loaded = load_rows(s, task->rows[branch], start, buffer);
    for (int i = 0; i < loaded; i++) {
        float result = dot(buffer + i * s->tall, grad_weight + i * taps, taps);
        task->grad_factors[row + i] = result;
        weights[i] = result * task->slopes[row + i];
    }
    for (integer first = 0; first < taps; first += WIDE) {
        Tile tile = product(buffer, s->tall, 1, task->panels + first * s->wide, s->wide);
        integer count = taps - first < WIDE ? taps - first : WIDE;
        for (int i = 0; i < loaded; i++) {
            integer at_tile = i * taps + first;
            store_row(
                tile.row[i], weights[i], task->factors[row + i], grad_weight + at_tile, count, grad_rows + at_tile);
        }
    }
    EACH_ROW {
        const float *values = buffer + i * s->tall;
        for (integer first = 0; first < s->tall; first += TALL)
            memcpy(task->plain + first * STEP + (index + i) * TALL, values + first, sizeof(float) * TALL);
        for (integer first = 0; first < s->wide; first += WIDE) {
            float *panel = task->weighted + first * STEP + (index + i) * WIDE;
            for (int j = 0; j < WIDE; j++) panel[j] = weights[i] * values[first + j];
        }
    }
}

/* Add the products of `count` rows of a step to the tile at (p, j). */
static void add_products(const Task *task, integer p, integer j, integer count) {
    Tile tile = product(task->plain + p * STEP, 1, TALL, task->weighted + j * STEP, count);
    EACH_ROW {
        float *to = task->products + (p + i) * task->sides.wide + j;
        *(Vector *)to += tile.row[i][0];
        *(Vector *)(to + LANES) += tile.row[i][1];
    }
}

/* Compute the gradients of the tiles of all branches' rows from `begin` to `end`. */
static void step_gradients(const Task *task, integer begin, integer end, float *buffer) {
    const Sides *s = &task->sides;
    integer tiles = tiles_of(s);
#pragma omp for
    for (integer tile = begin; tile < end; tile++)
        tile_gradients(task, tile / tiles, tile % tiles * TALL, (tile - begin) * TALL, buffer);
#pragma omp for schedule(dynamic, 1)
    for (integer last = s->wide - WIDE; last >= 0; last -= WIDE) /* the longest first */
        for (integer p = 0; p < last + WIDE; p += TALL) add_products(task, p, last, (end - begin) * TALL);
}

/* Write row p of a symmetric square of taps from its upper triangle (tall, wide). */
static void mirror(const Sides *s, const float *products, integer p, float *row) {
    for (integer j = 0; j < p; j++) row[j] = products[j * s->wide + p];
    memcpy(row + p, products + p * s->wide + p, sizeof(float) * (s->size.taps - p));
}

/* All gradients of a single group, by tiles. */
static int all_gradients(Task *task, const float *covariance, float *grad_covariance, int threads) {
    const Sides *s = &task->sides;
    integer taps = s->size.taps, all = s->size.branches * tiles_of(s), step = STEP / TALL;
    integer products = s->wide * s->wide, plain = products + up_to(s->tall * s->wide, CACHE_LINE);
    integer weighted = plain + up_to(s->tall * STEP, CACHE_LINE), rest = weighted + s->wide * STEP;
    float *memory = values(rest + threads * buffer_size(s));
    if (!memory) return 1;
    task->panels = memory;
    task->products = memory + products;
    task->plain = memory + plain;
    task->weighted = memory + weighted;
    memset(task->products, 0, sizeof(float) * s->tall * s->wide);
#pragma omp parallel num_threads(threads)
    {
        float *buffer = memory + rest + thread() * buffer_size(s);
#pragma omp for
        for (integer first = 0; first < s->wide; first += WIDE)
            covariance_panel(s, covariance, first, 0, task->panels + first * s->wide);
        for (integer begin = 0; begin < all; begin += step)
            step_gradients(task, begin, all - begin < step ? all : begin + step, buffer);
#pragma omp for
        for (integer p = 0; p < taps; p++) mirror(s, task->products, p, grad_covariance + p * taps);
    }
    free(memory);
    return 0;
}

/* All gradients of one group, row by row. */
static void group_gradients(const Task *task, integer group, const float *covariance, float *grad_covariance) {
    const Size *size = &task->sides.size;
    integer taps = size->taps, outputs = size->outputs, index = group * size->branches * outputs;
    memset(grad_covariance, 0, sizeof(float) * taps * taps);
    for (integer b = 0; b < size->branches; b++)
        for (integer o = 0; o < outputs; o++, index++) {
            integer start = (group * outputs + o) * taps;
            const float *row = task->rows[b] + start, *grad_weight = task->grad_weight + start;
            double result = exact_dot(row, grad_weight, taps), weight = result * task->slopes[index];
            task->grad_factors[index] = (float)result;
            for (integer p = 0; p < taps; p++) {
                double moved = exact_dot(covariance + p * taps, row, taps);
                double grad_row = 2 * weight * moved + (double)task->factors[index] * grad_weight[p];
                task->grad_rows[b][start + p] = (float)grad_row;
                for (integer q = 0; q < taps; q++) grad_covariance[p * taps + q] += (float)weight * (row[p] * row[q]);
            }
        }
}

/* Gradients of factors (groups, branches, outputs), rows and S (groups, taps, taps), given grad_weight (groups,
   outputs, taps), that of the sum of rows times factors. A row's variance receives its factor's gradient times its
   slope.
   Returns 1 where memory is missing. */
int gradients(
    const Size *size, const float *const *rows, const float *grad_weight, const float *covariance, const float *factors,
    const float *slopes, float *grad_factors, float *const *grad_rows, float *grad_covariance, int threads) {
    Sides s = sides_of(size);
    integer square = size->taps * size->taps;
    Task task = {
        .sides = s, .rows = rows, .grad_weight = grad_weight, .factors = factors, .slopes = slopes,
        .grad_factors = grad_factors, .grad_rows = grad_rows};
    if (size->groups == 1) return all_gradients(&task, covariance, grad_covariance, threads);
#pragma omp parallel for num_threads(threads)
    for (integer g = 0; g < size->groups; g++)
        group_gradients(&task, g, covariance + g * square, grad_covariance + g * square);
    return 0;
}
