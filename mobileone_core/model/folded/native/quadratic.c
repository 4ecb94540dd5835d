/* The variances w^T S w of a block's kernels w over an input of covariance S, their sum, and the gradients.

   Kernels are rows of `taps` floats, `outputs` rows a group and branch; S is (taps, taps) and symmetric: where a product
   is, half of it is computed. A product is made of tiles of TALL x WIDE values, from panels that hold the factors in the order
   they are read, padded with zeros. Sums over taps and rows have the same order by any number of threads. */

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
    integer wide, tall; /* taps, up to multiples of WIDE and of TALL beyond it */
} Sides;

static integer up_to(integer count, integer multiple) { return (count + multiple - 1) / multiple * multiple; }

static Sides sides_of(const Size *size) {
    integer wide = up_to(size->taps, WIDE);
    return (Sides){*size, wide, up_to(wide, TALL)};
}

/* Values that a thread holds of a tile's rows. */
static integer held_by_a_thread(const Sides *s) { return up_to(TALL * s->tall, CACHE_LINE); }

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

/* Tiles of a branch's rows. */
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

/* The product of a factor (TALL, count) and a panel (count, WIDE); values of the factor lie so far apart. */
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

/* S as panels (wide, WIDE), one after another. Folded: what lies below the diagonal's squares is added to its mirror
   image, and only the rows up to the square are there. */
static void covariance_panel(const Sides *s, const float *covariance, integer first, int folded, float *panel) {
    integer taps = s->size.taps, end = folded ? first + WIDE : s->wide;
    for (integer p = 0; p < end; p++)
        for (integer j = first; j < first + WIDE; j++)
            *panel++ = p < taps && j < taps ? covariance[p * taps + j] * (folded && p < first ? 2 : 1) : 0;
}

/* A tile's rows, of length tall, from `start` on; how many there are. */
static int take_rows(const Sides *s, const float *rows, integer start, float *out) {
    integer taps = s->size.taps, left = s->size.outputs - start;
    int taken = left < TALL ? (int)left : TALL;
    memset(out, 0, sizeof(float) * TALL * s->tall);
    for (int i = 0; i < taken; i++) memcpy(out + i * s->tall, rows + (start + i) * taps, sizeof(float) * taps);
    return taken;
}

static void tile_forms(
    const Sides *s, const float *rows, integer start, const float *mean, const float *panels, float *copy, float *means,
    float *variances) {
    integer taps = s->size.taps, apart = taps;
    const float *own = rows + start * taps;
    int taken = TALL;
    if (taps != s->wide || start + TALL > s->size.outputs) {
        taken = take_rows(s, rows, start, copy);
        own = copy;
        apart = s->tall;
    }
    Vector sums[TALL] = {0};
    for (integer first = 0; first < s->wide; first += WIDE) {
        Tile tile = product(own, apart, 1, panels + first * s->wide, first + WIDE);
        EACH_ROW {
            const float *row = own + i * apart + first;
            sums[i] += tile.row[i][0] * at(row) + tile.row[i][1] * at(row + LANES);
        }
    }
    for (int i = 0; i < taken; i++) {
        means[i] = dot(own + i * apart, mean, taps);
        variances[i] = sum_of(sums[i]);
    }
}

static double exact_dot(const float *restrict u, const float *restrict v, integer count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (integer t = 0; t < count; t++) sum += (double)u[t] * v[t];
    return sum;
}

/* One row after the other, for groups with few of them. */
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
   (groups, taps, taps). Whether there was no memory. */
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
    float *panels = values(panels_end + threads * held_by_a_thread(&s));
    if (!panels) return 1;
#pragma omp parallel num_threads(threads)
    {
        float *own = panels + panels_end + thread() * held_by_a_thread(&s);
#pragma omp for
        for (integer first = 0; first < s.wide; first += WIDE)
            covariance_panel(&s, covariance, first, 1, panels + first * s.wide);
#pragma omp for
        for (integer work = 0; work < size->branches * tiles; work++) {
            integer branch = work / tiles, start = work % tiles * TALL, place = branch * size->outputs + start;
            tile_forms(&s, rows[branch], start, mean, panels, own, means + place, variances + place);
        }
    }
    free(panels);
    return 0;
}

/* All rows times their factors (groups, branches, outputs), summed over the branches: (groups, outputs, taps). */
int kernel(const Size *size, const float *const *rows, const float *factors, float *sums, int threads) {
    integer taps = size->taps, outputs = size->outputs;
#pragma omp parallel for num_threads(threads)
    for (integer row = 0; row < size->groups * outputs; row++) {
        const float *factor = factors + row / outputs * size->branches * outputs + row % outputs;
        float *restrict sum = sums + row * taps;
        memset(sum, 0, sizeof(float) * taps);
        for (integer b = 0; b < size->branches; b++) {
            const float *own = rows[b] + row * taps;
            for (integer t = 0; t < taps; t++) sum[t] += factor[b * outputs] * own[t];
        }
    }
    return 0;
}

/* What is given and found for the gradients of all rows, and what is held for them. */
typedef struct {
    Sides sides;
    const float *const *rows, *grad_weight, *factors, *halves;
    float *grad_factors, *const *grad_rows;
    float *panels;             /* S as panels */
    float *products;           /* of rows with themselves by their weights, (tall, wide) */
    float *plain, *weighted;   /* a step's rows as panels (STEP, TALL), and times their weights as (STEP, WIDE) */
} Task;

/* A row's gradient: 2 weight (w S) + factor grad_weight. */
static void put_row(
    const Vector *tile, float weight, float factor, const float *grad_weight, integer count, float *grad_row) {
    for (integer j = 0; j < count; j += LANES) {
        Vector found = 2 * weight * tile[j / LANES];
        if (count - j >= LANES) {
            *(Vector *)(grad_row + j) = found + factor * at(grad_weight + j);
            continue;
        }
        for (integer l = 0; j + l < count; l++) grad_row[j + l] = found[l] + factor * grad_weight[j + l];
    }
}

/* A tile's gradients, and its rows put into the panels of their step, from row `place` on. */
static void tile_gradients(const Task *task, integer branch, integer start, integer place, float *own) {
    const Sides *s = &task->sides;
    integer taps = s->size.taps, row = branch * s->size.outputs + start;
    const float *grad_weight = task->grad_weight + start * taps;
    float *grad_rows = task->grad_rows[branch] + start * taps, weights[TALL] = {0};
    int taken = take_rows(s, task->rows[branch], start, own);
    for (int i = 0; i < taken; i++) {
        float found = dot(own + i * s->tall, grad_weight + i * taps, taps);
        task->grad_factors[row + i] = found;
        weights[i] = found * task->halves[row + i];
    }
    for (integer first = 0; first < taps; first += WIDE) {
        Tile tile = product(own, s->tall, 1, task->panels + first * s->wide, s->wide);
        integer count = taps - first < WIDE ? taps - first : WIDE;
        for (int i = 0; i < taken; i++) {
            integer at_tile = i * taps + first;
            put_row(
                tile.row[i], weights[i], task->factors[row + i], grad_weight + at_tile, count, grad_rows + at_tile);
        }
    }
    EACH_ROW {
        const float *values = own + i * s->tall;
        for (integer first = 0; first < s->tall; first += TALL)
            memcpy(task->plain + first * STEP + (place + i) * TALL, values + first, sizeof(float) * TALL);
        for (integer first = 0; first < s->wide; first += WIDE) {
            float *panel = task->weighted + first * STEP + (place + i) * WIDE;
            for (int j = 0; j < WIDE; j++) panel[j] = weights[i] * values[first + j];
        }
    }
}

/* The tile of products at (p, j) from `count` rows of a step. */
static void add_products(const Task *task, integer p, integer j, integer count) {
    Tile tile = product(task->plain + p * STEP, 1, TALL, task->weighted + j * STEP, count);
    EACH_ROW {
        float *to = task->products + (p + i) * task->sides.wide + j;
        *(Vector *)to += tile.row[i][0];
        *(Vector *)(to + LANES) += tile.row[i][1];
    }
}

/* The tiles of all branches' rows from `begin` to `end`. */
static void step_gradients(const Task *task, integer begin, integer end, float *own) {
    const Sides *s = &task->sides;
    integer tiles = tiles_of(s);
#pragma omp for
    for (integer tile = begin; tile < end; tile++)
        tile_gradients(task, tile / tiles, tile % tiles * TALL, (tile - begin) * TALL, own);
#pragma omp for schedule(dynamic, 1)
    for (integer last = s->wide - WIDE; last >= 0; last -= WIDE) /* what lasts longest begins first */
        for (integer p = 0; p < last + WIDE; p += TALL) add_products(task, p, last, (end - begin) * TALL);
}

/* Of (tall, wide), of which the upper triangle is there, a row of the whole square of taps. */
static void mirror(const Sides *s, const float *products, integer p, float *row) {
    for (integer j = 0; j < p; j++) row[j] = products[j * s->wide + p];
    memcpy(row + p, products + p * s->wide + p, sizeof(float) * (s->size.taps - p));
}

/* By tiles, all that there is of one group. */
static int all_gradients(Task *task, const float *covariance, float *grad_covariance, int threads) {
    const Sides *s = &task->sides;
    integer taps = s->size.taps, all = s->size.branches * tiles_of(s), step = STEP / TALL;
    integer products = s->wide * s->wide, plain = products + up_to(s->tall * s->wide, CACHE_LINE);
    integer weighted = plain + up_to(s->tall * STEP, CACHE_LINE), rest = weighted + s->wide * STEP;
    float *held = values(rest + threads * held_by_a_thread(s));
    if (!held) return 1;
    task->panels = held;
    task->products = held + products;
    task->plain = held + plain;
    task->weighted = held + weighted;
    memset(task->products, 0, sizeof(float) * s->tall * s->wide);
#pragma omp parallel num_threads(threads)
    {
        float *own = held + rest + thread() * held_by_a_thread(s);
#pragma omp for
        for (integer first = 0; first < s->wide; first += WIDE)
            covariance_panel(s, covariance, first, 0, task->panels + first * s->wide);
        for (integer begin = 0; begin < all; begin += step)
            step_gradients(task, begin, all - begin < step ? all : begin + step, own);
#pragma omp for
        for (integer p = 0; p < taps; p++) mirror(s, task->products, p, grad_covariance + p * taps);
    }
    free(held);
    return 0;
}

/* All of one group, a row after the other. */
static void group_gradients(const Task *task, integer group, const float *covariance, float *grad_covariance) {
    const Size *size = &task->sides.size;
    integer taps = size->taps, outputs = size->outputs, place = group * size->branches * outputs;
    memset(grad_covariance, 0, sizeof(float) * taps * taps);
    for (integer b = 0; b < size->branches; b++)
        for (integer o = 0; o < outputs; o++, place++) {
            integer start = (group * outputs + o) * taps;
            const float *row = task->rows[b] + start, *grad_weight = task->grad_weight + start;
            double found = exact_dot(row, grad_weight, taps), weight = found * task->halves[place];
            task->grad_factors[place] = (float)found;
            for (integer p = 0; p < taps; p++) {
                double moved = exact_dot(covariance + p * taps, row, taps);
                double grad_row = 2 * weight * moved + (double)task->factors[place] * grad_weight[p];
                task->grad_rows[b][start + p] = (float)grad_row;
                for (integer q = 0; q < taps; q++) grad_covariance[p * taps + q] += (float)weight * (row[p] * row[q]);
            }
        }
}

/* Gradients to the factors (groups, branches, outputs), to the rows, and to S (groups, taps, taps), from that to the
   kernel (groups, outputs, taps), the sum of all rows times their factors. A row's weight is its grad_factor times its
   half: what its variance gets. Whether there was no memory. */
int gradients(
    const Size *size, const float *const *rows, const float *grad_weight, const float *covariance, const float *factors,
    const float *halves, float *grad_factors, float *const *grad_rows, float *grad_covariance, int threads) {
    Sides s = sides_of(size);
    integer square = size->taps * size->taps;
    Task task = {
        .sides = s, .rows = rows, .grad_weight = grad_weight, .factors = factors, .halves = halves,
        .grad_factors = grad_factors, .grad_rows = grad_rows};
    if (size->groups == 1) return all_gradients(&task, covariance, grad_covariance, threads);
#pragma omp parallel for num_threads(threads)
    for (integer g = 0; g < size->groups; g++)
        group_gradients(&task, g, covariance + g * square, grad_covariance + g * square);
    return 0;
}
