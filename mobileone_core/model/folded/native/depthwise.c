/* Depthwise 3x3 convolution with padding 1 and stride 1 or 2, and the moments of its patches.

   x is float32, contiguous (N, C, H, W). A row of patches is stored as three lines, one per column of the kernel, less
   a shift, so that padding is -shift; a line holds several narrow images. One thread computes a channel and sums over
   lines in double: results do not depend on the number of threads. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 3
#define TAPS 9
#define MULTIPLE 16 /* lines are padded with zeros to a multiple of it */
#define LINE 512    /* values of a line of several images, at most */
#define SMALL 8     /* output columns of a small map */
#define EACH_TAP for (int t = 0; t < TAPS; t++)

typedef int64_t integer;

typedef struct {
    integer batch, channels, height, width, stride;
} Shape;

typedef struct {
    Shape shape;
    integer rows, columns; /* of the output */
    integer images, line;  /* images per line, values per line */
    integer padded;        /* rows that patches cover, padding included */
} Lines;

typedef struct {
    const float *first; /* the channel's plane in the group's first image */
    integer spacing;    /* values from one image to the next */
    integer images;
} Planes;

static Lines lines_of(const Shape *shape) {
    Lines l = {.shape = *shape};
    l.rows = (shape->height - 1) / shape->stride + 1;
    l.columns = (shape->width - 1) / shape->stride + 1;
    l.images = LINE / l.columns;
    if (l.images < 1) l.images = 1;
    if (l.images > shape->batch) l.images = shape->batch;
    l.line = (l.images * l.columns + MULTIPLE - 1) / MULTIPLE * MULTIPLE;
    l.padded = shape->stride * (l.rows - 1) + SIDE;
    return l;
}

static Planes planes_of(const float *x, integer channel, integer start, const Lines *l, integer plane) {
    integer spacing = l->shape.channels * plane, left = l->shape.batch - start;
    return (Planes){x + start * spacing + channel * plane, spacing, left < l->images ? left : l->images};
}

/* Inputs and results of an operator. */
typedef struct {
    const float *x, *mean, *kernel, *bias, *grad_output, *mean_grad, *weights;
    double *means, *covariances;
    float *y, *grad_weight, *grad_bias, *grad_input;
} Task;

typedef void Work(const Task *task, integer channel, const Lines *l, float *buffer);

static float *lines(const Lines *l, int count) { return aligned_alloc(64, sizeof(float) * l->line * count); }

/* Call work for every channel, with a buffer of `count` lines per thread. Returns 1 without memory. */
static int each_channel(const Shape *shape, const Task *task, Work *work, int count, int threads) {
    Lines l = lines_of(shape);
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        float *buffer = lines(&l, count);
        failed = !buffer;
#pragma omp for
        for (integer c = 0; c < shape->channels; c++)
            if (buffer) work(task, c, &l, buffer);
        free(buffer);
    }
    return failed;
}

/* Load row `row` of the padded planes as three lines: what each column of the kernel covers. */
static void load_row(const Planes *x, const Lines *l, integer row, float shift, float *out) {
    integer width = l->shape.width, columns = l->columns, used = x->images * columns;
    float *left = out, *middle = out + l->line, *right = middle + l->line;
    int last_is_inside = l->shape.stride * (columns - 1) + 1 < width;
    memset(out, 0, sizeof(float) * SIDE * l->line);
    if (row == 0 || row == l->shape.height + 1) {
        for (int b = 0; b < SIDE; b++)
            for (integer j = 0; j < used; j++) out[b * l->line + j] = -shift;
        return;
    }
    for (integer image = 0; image < x->images; image++) {
        const float *source = x->first + image * x->spacing + (row - 1) * width;
        integer start = image * columns;
        if (l->shape.stride == 1) {
            for (integer j = 0; j < columns; j++) middle[start + j] = source[j] - shift;
            continue;
        }
        for (integer j = 0; j < columns; j++) middle[start + j] = source[2 * j] - shift;
        for (integer j = 0; j + 1 < columns; j++) right[start + j] = source[2 * j + 1] - shift;
        right[start + columns - 1] = last_is_inside ? source[2 * columns - 1] - shift : -shift;
    }
    if (l->shape.stride == 1) memcpy(right, middle + 1, sizeof(float) * (used - 1));
    memcpy(left + 1, l->shape.stride == 1 ? middle : right, sizeof(float) * (used - 1));
    for (integer start = 0; start < used; start += columns) {
        left[start] = -shift;
        if (l->shape.stride == 1) right[start + columns - 1] = -shift;
    }
}

/* Load row i of an output's planes less their mean as one line. */
static void load_line(const Planes *y, const Lines *l, integer i, float mean_grad, float *out) {
    integer used = y->images * l->columns;
    for (integer image = 0; image < y->images; image++) {
        const float *source = y->first + image * y->spacing + i * l->columns;
        for (integer j = 0; j < l->columns; j++) out[image * l->columns + j] = source[j] - mean_grad;
    }
    memset(out + used, 0, sizeof(float) * (l->line - used));
}

/* Products of three lines with three, summed in double: few outliers among many similar values lose digits in float
   sums, and w^T S w of similar patches needs those digits of S. */
static void dots(const float *restrict u, const float *restrict v, integer line, double *out) {
    const float *u0 = u, *u1 = u + line, *u2 = u + 2 * line, *v0 = v, *v1 = v + line, *v2 = v + 2 * line;
    double a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0, i = 0;
#pragma omp simd reduction(+ : a, b, c, d, e, f, g, h, i)
    for (integer j = 0; j < line; j++) {
        double p = u0[j], q = u1[j], r = u2[j], x = v0[j], y = v1[j], z = v2[j];
        a += p * x, b += p * y, c += p * z;
        d += q * x, e += q * y, f += q * z;
        g += r * x, h += r * y, i += r * z;
    }
    double all[TAPS] = {a, b, c, d, e, f, g, h, i};
    memcpy(out, all, sizeof all);
}

/* Products of one line with the lines of three rows; and its sum, in double, since its terms may cancel. */
static void dots_with(
    const float *restrict one, const float *restrict u, const float *restrict v, const float *restrict w, integer line,
    double *out, double *total) {
    const float *u1 = u + line, *u2 = u1 + line, *v1 = v + line, *v2 = v1 + line, *w1 = w + line, *w2 = w1 + line;
    float a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0, i = 0;
    double sum = 0;
#pragma omp simd reduction(+ : a, b, c, d, e, f, g, h, i, sum)
    for (integer j = 0; j < line; j++) {
        float p = one[j];
        a += p * u[j], b += p * u1[j], c += p * u2[j];
        d += p * v[j], e += p * v1[j], f += p * v2[j];
        g += p * w[j], h += p * w1[j], i += p * w2[j];
        sum += p;
    }
    double all[TAPS] = {a, b, c, d, e, f, g, h, i};
    EACH_TAP out[t] += all[t];
    *total += sum;
}

static double total(const float *restrict u, integer count) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (integer j = 0; j < count; j++) sum += u[j];
    return sum;
}

/* Sums of each of three lines. */
static void totals(const float *restrict u, integer line, double *out) {
    double a = 0, b = 0, c = 0;
#pragma omp simd reduction(+ : a, b, c)
    for (integer j = 0; j < line; j++) a += u[j], b += u[line + j], c += u[2 * line + j];
    out[0] = a, out[1] = b, out[2] = c;
}

/* Mean of the values that the kernel's centre covers: less it, values that differ little keep their digits. */
static float centre_mean(const float *x, integer channel, const Lines *l) {
    const Shape *shape = &l->shape;
    integer plane = shape->height * shape->width;
    double sum = 0;
    for (integer n = 0; n < shape->batch; n++) {
        const float *first = x + (n * shape->channels + channel) * plane;
        if (shape->stride == 1) {
            sum += total(first, plane);
            continue;
        }
        for (integer i = 0; i < l->rows; i++) {
            const float *row = first + i * shape->stride * shape->width;
            float total = 0;
            for (integer j = 0; j < l->columns; j++) total += row[j * shape->stride];
            sum += total;
        }
    }
    return (float)(sum / (double)(shape->batch * l->rows * l->columns));
}

/* Whether row a of the kernel meets padded row `row` at some output row, and at which (i). */
static int output_row(const Lines *l, integer row, int a, integer *i) {
    integer start = row - a;
    if (start < 0 || start % l->shape.stride) return 0;
    *i = start / l->shape.stride;
    return *i < l->rows;
}

/* Add what rows r - d and r of the patches contribute to products of two taps, per kernel row that meets them. */
static void add_products(const Lines *l, integer r, int d, const float *upper, const float *lower, double *products) {
    integer i;
    int used = 0;
    double result[TAPS];
    for (int a = 0; a + d < SIDE; a++) {
        if (!output_row(l, r - d, a, &i)) continue;
        if (!used++) dots(upper, lower, l->line, result);
        EACH_TAP products[(SIDE * a + t / SIDE) * TAPS + SIDE * (a + d) + t % SIDE] += result[t];
    }
}

static void add_sums(const Lines *l, integer r, const float *row, double *sums) {
    integer i;
    double result[SIDE];
    totals(row, l->line, result);
    for (int a = 0; a < SIDE; a++)
        if (output_row(l, r, a, &i))
            for (int b = 0; b < SIDE; b++) sums[SIDE * a + b] += result[b];
}

static void channel_moments(const Task *task, integer channel, const Lines *l, float *buffer) {
    const Shape *shape = &l->shape;
    const float *x = task->x;
    double *mean = task->means + channel * TAPS, *cov = task->covariances + channel * TAPS * TAPS;
    double sums[TAPS] = {0}, products[TAPS * TAPS] = {0}, count = (double)(shape->batch * l->rows * l->columns);
    float shift = l->columns <= SMALL ? 0 : centre_mean(x, channel, l); /* it would round a small map's few values */
    for (integer start = 0; start < shape->batch; start += l->images) {
        Planes planes = planes_of(x, channel, start, l, shape->height * shape->width);
        for (integer r = 0; r < l->padded; r++) {
            float *row = buffer + r % SIDE * SIDE * l->line;
            load_row(&planes, l, r, shift, row);
            add_sums(l, r, row, sums);
            for (int d = 0; d < SIDE && d <= r; d++)
                add_products(l, r, d, buffer + (r - d) % SIDE * SIDE * l->line, row, products);
        }
    }
    EACH_TAP mean[t] = sums[t] / count + shift;
    for (int s = 0; s < TAPS; s++)
        EACH_TAP {
            double product = products[s / SIDE <= t / SIDE ? s * TAPS + t : t * TAPS + s] / count;
            cov[s * TAPS + t] = product - sums[s] / count * (sums[t] / count);
        }
}

/* Mean (C, 9) and covariance (C, 9, 9) of the patches of x. */
int moments(const Shape *shape, const float *x, double *mean, double *covariance, int threads) {
    Task task = {.x = x, .means = mean, .covariances = covariance};
    return each_channel(shape, &task, channel_moments, SIDE * SIDE, threads);
}

static void channel_convolution(const Task *task, integer channel, const Lines *l, float *buffer) {
    const Shape *shape = &l->shape;
    const float *x = task->x, *kernel = task->kernel + channel * TAPS, *mean = task->mean + channel * TAPS;
    integer plane = l->rows * l->columns, line = l->line;
    float shift = mean[TAPS / 2], *restrict out = buffer + SIDE * SIDE * line;
    double offset = task->bias[channel];
    EACH_TAP offset -= (double)kernel[t] * ((double)mean[t] - shift);
    for (integer start = 0; start < shape->batch; start += l->images) {
        Planes planes = planes_of(x, channel, start, l, shape->height * shape->width);
        for (integer r = 0; r < l->padded; r++) {
            integer i;
            load_row(&planes, l, r, shift, buffer + r % SIDE * SIDE * line);
            if (!output_row(l, r, SIDE - 1, &i)) continue;
            for (integer j = 0; j < line; j++) out[j] = (float)offset;
            for (int a = 0; a < SIDE; a++) {
                const float *restrict row = buffer + (r - 2 + a) % SIDE * SIDE * line;
                float u = kernel[SIDE * a], v = kernel[SIDE * a + 1], w = kernel[SIDE * a + 2];
                for (integer j = 0; j < line; j++) out[j] += u * row[j] + v * row[line + j] + w * row[2 * line + j];
            }
            for (integer image = 0; image < planes.images; image++)
                memcpy(
                    task->y + ((start + image) * shape->channels + channel) * plane + i * l->columns,
                    out + image * l->columns, sizeof(float) * l->columns);
        }
    }
}

/* y (N, C, rows, columns) = kernel (C, 9) times the patches less their mean, plus bias (C). */
int convolve(
    const Shape *shape, const float *x, const float *mean, const float *kernel, const float *bias, float *y,
    int threads) {
    Task task = {.x = x, .mean = mean, .kernel = kernel, .bias = bias, .y = y};
    return each_channel(shape, &task, channel_convolution, SIDE * SIDE + 1, threads);
}

static void channel_parameter_gradients(const Task *task, integer channel, const Lines *l, float *buffer) {
    const Shape *shape = &l->shape;
    const float *x = task->x, *grad_output = task->grad_output, *mean = task->mean + channel * TAPS;
    float shift = mean[TAPS / 2], *weights = buffer + SIDE * SIDE * l->line;
    double sums[TAPS] = {0}, all = 0;
    for (integer start = 0; start < shape->batch; start += l->images) {
        Planes planes = planes_of(x, channel, start, l, shape->height * shape->width);
        Planes outputs = planes_of(grad_output, channel, start, l, l->rows * l->columns);
        for (integer r = 0; r < l->padded; r++) {
            integer i;
            load_row(&planes, l, r, shift, buffer + r % SIDE * SIDE * l->line);
            if (!output_row(l, r, SIDE - 1, &i)) continue;
            load_line(&outputs, l, i, 0, weights);
            const float *upper = buffer + (r - 2) % SIDE * SIDE * l->line;
            const float *middle = buffer + (r - 1) % SIDE * SIDE * l->line;
            dots_with(weights, upper, middle, buffer + r % SIDE * SIDE * l->line, l->line, sums, &all);
        }
    }
    EACH_TAP task->grad_weight[channel * TAPS + t] = (float)(sums[t] - all * ((double)mean[t] - shift));
    task->grad_bias[channel] = (float)all;
}

/* The gradients of convolve to kernel (C, 9) and bias (C). */
int parameter_gradients(
    const Shape *shape, const float *x, const float *mean, const float *grad_output, float *grad_weight,
    float *grad_bias, int threads) {
    Task task = {.x = x, .mean = mean, .grad_output = grad_output, .grad_weight = grad_weight, .grad_bias = grad_bias};
    return each_channel(shape, &task, channel_parameter_gradients, SIDE * SIDE + 1, threads);
}

#define REACH 5 /* rows of x that share a patch with a given row */

/* Weights of a row's gradient: from[d] for the row at distance d - 2, per columns of two taps; and a constant. */
typedef struct {
    int ready;
    float from[REACH][SIDE][SIDE], constant[SIDE];
} Weights;

static void prepare(Weights *w, int kernel_rows, const float *weights, const double *constants) {
    memset(w, 0, sizeof *w);
    w->ready = 1;
    for (int a = 0; a < SIDE; a++) {
        if (!(kernel_rows >> a & 1)) continue;
        for (int b = 0; b < SIDE; b++) {
            w->constant[b] += (float)constants[SIDE * a + b];
            EACH_TAP w->from[t / SIDE - a + 2][b][t % SIDE] += weights[(SIDE * a + b) * TAPS + t];
        }
    }
}

/* out = constant + sum of weight * line, for each of the kernel's three columns. */
static inline void sum_lines(
    const float *const *lines, const float *const *w, int count, const float *constant, integer line, float *out) {
    for (int b = 0; b < SIDE; b++) {
#pragma omp simd
        for (integer j = 0; j < line; j++) {
            float sum = constant[b];
            for (int n = 0; n < count; n++) sum += w[n][b] * lines[n][j];
            out[b * line + j] = sum;
        }
    }
}

/* out += sum of weight * row of patches, for each of the kernel's three columns. */
static inline void add_rows(
    const float *const *rows, const float (*const *w)[SIDE], int count, integer line, float *restrict out) {
#pragma omp simd
    for (integer j = 0; j < line; j++)
        for (int b = 0; b < SIDE; b++) {
            float sum = out[b * line + j];
            for (int n = 0; n < count; n++)
                sum += w[n][b][0] * rows[n][j] + w[n][b][1] * rows[n][line + j] + w[n][b][2] * rows[n][2 * line + j];
            out[b * line + j] = sum;
        }
}

/* Add up the gradients of a row's values as columns 0, 1 and 2 of the kernel: at stride 1 into the line of column 1, at
   stride 2 into that line (even columns of x) and the line of column 2 (odd ones). */
static void join_columns(float *gradients, const Lines *l, integer images) {
    float *restrict left = gradients, *restrict middle = left + l->line, *restrict right = middle + l->line;
    integer columns = l->columns, last = l->line - 1, used = images * columns;
    for (integer start = 0; start < used; start += columns) { /* gradients of padding */
        left[start] = 0;
        if (l->shape.stride == 1) right[start + columns - 1] = 0;
    }
    if (used <= last) left[used] = 0;
    if (l->shape.stride == 2) {
        for (integer j = 0; j < last; j++) right[j] += left[j + 1];
        return;
    }
    middle[0] += left[1];
    for (integer j = 1; j < last; j++) middle[j] = middle[j] + left[j + 1] + right[j - 1];
    middle[last] += right[last - 1];
}

/* Store one image's row of the joined gradients. */
static void store_row(const float *gradients, const Lines *l, integer image, float *restrict out) {
    const float *restrict middle = gradients + l->line + image * l->columns, *restrict odd = middle + l->line;
    integer width = l->shape.width;
    if (l->shape.stride == 1) {
        memcpy(out, middle, sizeof(float) * width);
        return;
    }
    for (integer j = 0; j < width / 2; j++) out[2 * j] = middle[j], out[2 * j + 1] = odd[j];
    if (width % 2) out[width - 1] = middle[width / 2];
}

typedef struct {
    float *patches, *outputs, *gradients; /* REACH rows, SIDE + 1 lines of grad_output, one row */
    integer patches_end, outputs_end;    /* the rows loaded so far */
} Window;

static void advance(
    Window *window, const Planes *x, const Planes *y, const Lines *l, integer row, float shift, float mean_grad) {
    for (; window->patches_end <= row + 2 && window->patches_end < l->padded; window->patches_end++)
        load_row(x, l, window->patches_end, shift, window->patches + window->patches_end % REACH * SIDE * l->line);
    for (; window->outputs_end * l->shape.stride <= row && window->outputs_end < l->rows; window->outputs_end++)
        load_line(y, l, window->outputs_end, mean_grad, window->outputs + window->outputs_end % (SIDE + 1) * l->line);
}

static void compute_row(
    Window *window, const Lines *l, integer row, Weights *cached, const float *kernel, const float *weights,
    const double *constants) {
    const float *lines[SIDE], *factors[SIDE], *rows[REACH], (*from[REACH])[SIDE];
    integer i, line = l->line;
    int kernel_rows = 0, outputs = 0, patches = 0;
    for (int a = 0; a < SIDE; a++) {
        if (!output_row(l, row, a, &i)) continue;
        kernel_rows |= 1 << a;
        lines[outputs] = window->outputs + i % (SIDE + 1) * line;
        factors[outputs++] = kernel + SIDE * a;
    }
    Weights *w = cached + kernel_rows;
    if (!w->ready) prepare(w, kernel_rows, weights, constants);
    for (int d = 0; d < REACH; d++) {
        int used = 0; /* whether one of the kernel's rows reaches there */
        for (int a = 0; a < SIDE; a++) used |= (kernel_rows >> a & 1) && d - 2 + a >= 0 && d - 2 + a < SIDE;
        if (!used) continue;
        rows[patches] = window->patches + (row + d - 2) % REACH * SIDE * line;
        from[patches++] = w->from[d];
    }
    float *out = window->gradients;
    switch (outputs) {
    case 1: sum_lines(lines, factors, 1, w->constant, line, out); break;
    case 2: sum_lines(lines, factors, 2, w->constant, line, out); break;
    default: sum_lines(lines, factors, SIDE, w->constant, line, out);
    }
    int n = 0;
    for (; n + 1 < patches; n += 2) add_rows(rows + n, from + n, 2, line, out);
    if (n < patches) add_rows(rows + n, from + n, 1, line, out);
}

static void channel_input_gradient(const Task *task, integer channel, const Lines *l, float *buffer) {
    const Shape *shape = &l->shape;
    integer plane = shape->height * shape->width;
    const float *mean = task->mean + channel * TAPS, *weights = task->weights + channel * TAPS * TAPS;
    float shift = mean[TAPS / 2];
    Weights cached[1 << SIDE];
    for (int kernel_rows = 0; kernel_rows < 1 << SIDE; kernel_rows++) cached[kernel_rows].ready = 0;
    double constants[TAPS];
    EACH_TAP {
        constants[t] = 0;
        for (int s = 0; s < TAPS; s++) constants[t] -= (double)weights[t * TAPS + s] * ((double)mean[s] - shift);
    }
    for (integer start = 0; start < shape->batch; start += l->images) {
        Planes x = planes_of(task->x, channel, start, l, plane);
        Planes y = planes_of(task->grad_output, channel, start, l, l->rows * l->columns);
        float *outputs = buffer + REACH * SIDE * l->line;
        Window window = {buffer, outputs, outputs + (SIDE + 1) * l->line, 0, 0};
        for (integer row = 1; row <= shape->height; row++) {
            advance(&window, &x, &y, l, row, shift, task->mean_grad[channel]);
            compute_row(&window, l, row, cached, task->kernel + channel * TAPS, weights, constants);
            join_columns(window.gradients, l, x.images);
            for (integer image = 0; image < x.images; image++) {
                float *out = task->grad_input + ((start + image) * shape->channels + channel) * plane;
                store_row(window.gradients, l, image, out + (row - 1) * shape->width);
            }
        }
    }
}

/* grad_input (N, C, H, W): the sum over taps of kernel * (grad_output - mean_grad) + weights (p - mean), for mean_grad
   (C) and weights (C, 9, 9), symmetric. */
int input_gradient(
    const Shape *shape, const float *x, const float *mean, const float *grad_output, const float *mean_grad,
    const float *kernel, const float *weights, float *grad_input, int threads) {
    Task task = {
        .x = x, .mean = mean, .grad_output = grad_output, .mean_grad = mean_grad, .kernel = kernel, .weights = weights,
        .grad_input = grad_input};
    return each_channel(shape, &task, channel_input_gradient, REACH * SIDE + SIDE + 1 + SIDE, threads);
}
