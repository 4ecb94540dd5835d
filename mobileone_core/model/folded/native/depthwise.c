/* Depthwise 3x3 convolution with padding 1 and stride 1 or 2, and the moments of its patches.

   x is float32, contiguous (N, C, H, W). A row of patches is kept as three lines, one for each column of the kernel,
   less a shift, so that padding is -shift; narrow images lie side by side in a line. A channel is the work of one
   thread, whose sums over lines are double: results do not depend on the number of threads. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 3
#define TAPS 9
#define MULTIPLE 16 /* lines end in zeros up to a multiple of it */
#define LINE 512    /* values that a line should hold */
#define SMALL 8     /* columns of an output of a small map */
#define EACH_TAP for (int t = 0; t < TAPS; t++)

typedef int64_t integer;

typedef struct {
    integer batch, channels, height, width, stride;
} Shape;

typedef struct {
    Shape shape;
    integer rows, columns; /* of the output */
    integer images, line;  /* images side by side, values of a line */
    integer padded;        /* rows that patches see, padding included */
} Lines;

typedef struct {
    const float *first; /* the channel's plane in the group's first image */
    integer apart;      /* values from one image to the next */
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
    integer apart = l->shape.channels * plane, left = l->shape.batch - start;
    return (Planes){x + start * apart + channel * plane, apart, left < l->images ? left : l->images};
}

/* What an operator is given and makes. */
typedef struct {
    const float *x, *mean, *kernel, *bias, *grad_output, *mean_grad, *weights;
    double *means, *covariances;
    float *y, *grad_weight, *grad_bias, *grad_input;
} Task;

typedef void Work(const Task *task, integer channel, const Lines *l, float *buffer);

static float *lines(const Lines *l, int count) { return aligned_alloc(64, sizeof(float) * l->line * count); }

/* Work on every channel, each thread with so many lines of its own; whether there was no memory for them. */
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

/* Row `row` of the padded planes, as its three columns of the kernel see it. */
static void take_row(const Planes *x, const Lines *l, integer row, float shift, float *out) {
    integer width = l->shape.width, columns = l->columns, used = x->images * columns;
    float *left = out, *own = out + l->line, *right = own + l->line;
    int last_is_inside = l->shape.stride * (columns - 1) + 1 < width;
    memset(out, 0, sizeof(float) * SIDE * l->line);
    if (row == 0 || row == l->shape.height + 1) {
        for (int b = 0; b < SIDE; b++)
            for (integer j = 0; j < used; j++) out[b * l->line + j] = -shift;
        return;
    }
    for (integer image = 0; image < x->images; image++) {
        const float *source = x->first + image * x->apart + (row - 1) * width;
        integer start = image * columns;
        if (l->shape.stride == 1) {
            for (integer j = 0; j < columns; j++) own[start + j] = source[j] - shift;
            continue;
        }
        for (integer j = 0; j < columns; j++) own[start + j] = source[2 * j] - shift;
        for (integer j = 0; j + 1 < columns; j++) right[start + j] = source[2 * j + 1] - shift;
        right[start + columns - 1] = last_is_inside ? source[2 * columns - 1] - shift : -shift;
    }
    if (l->shape.stride == 1) memcpy(right, own + 1, sizeof(float) * (used - 1));
    memcpy(left + 1, l->shape.stride == 1 ? own : right, sizeof(float) * (used - 1));
    for (integer start = 0; start < used; start += columns) {
        left[start] = -shift;
        if (l->shape.stride == 1) right[start + columns - 1] = -shift;
    }
}

/* Row i of the output's planes less a mean_grad, images side by side. */
static void take_line(const Planes *y, const Lines *l, integer i, float mean_grad, float *out) {
    integer used = y->images * l->columns;
    for (integer image = 0; image < y->images; image++) {
        const float *source = y->first + image * y->apart + i * l->columns;
        for (integer j = 0; j < l->columns; j++) out[image * l->columns + j] = source[j] - mean_grad;
    }
    memset(out + used, 0, sizeof(float) * (l->line - used));
}

/* Products of three lines with three. Few values that stand out among many alike would lose digits in float sums, and
   w^T S w of patches much alike needs those of S. */
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

/* Products of one line with the three of three rows, and its sum, of which little may be left. */
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

/* Sums of three lines. */
static void totals(const float *restrict u, integer line, double *out) {
    double a = 0, b = 0, c = 0;
#pragma omp simd reduction(+ : a, b, c)
    for (integer j = 0; j < line; j++) a += u[j], b += u[line + j], c += u[2 * line + j];
    out[0] = a, out[1] = b, out[2] = c;
}

/* What the kernel's centre sees, on average: less it, a centre whose values differ little keeps its digits. */
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
            float seen = 0;
            for (integer j = 0; j < l->columns; j++) seen += row[j * shape->stride];
            sum += seen;
        }
    }
    return (float)(sum / (double)(shape->batch * l->rows * l->columns));
}

/* Whether tap row a of padded row `row` belongs to an output row, and to which. */
static int output_row(const Lines *l, integer row, int a, integer *i) {
    integer start = row - a;
    if (start < 0 || start % l->shape.stride) return 0;
    *i = start / l->shape.stride;
    return *i < l->rows;
}

/* What rows r - d and r of the patches add to the products of two taps: output rows differ by where they begin. */
static void add_products(const Lines *l, integer r, int d, const float *upper, const float *lower, double *products) {
    integer i;
    int used = 0;
    double found[TAPS];
    for (int a = 0; a + d < SIDE; a++) {
        if (!output_row(l, r - d, a, &i)) continue;
        if (!used++) dots(upper, lower, l->line, found);
        EACH_TAP products[(SIDE * a + t / SIDE) * TAPS + SIDE * (a + d) + t % SIDE] += found[t];
    }
}

static void add_sums(const Lines *l, integer r, const float *row, double *sums) {
    integer i;
    double found[SIDE];
    totals(row, l->line, found);
    for (int a = 0; a < SIDE; a++)
        if (output_row(l, r, a, &i))
            for (int b = 0; b < SIDE; b++) sums[SIDE * a + b] += found[b];
}

static void channel_moments(const Task *task, integer channel, const Lines *l, float *buffer) {
    const Shape *shape = &l->shape;
    const float *x = task->x;
    double *mean = task->means + channel * TAPS, *cov = task->covariances + channel * TAPS * TAPS;
    double sums[TAPS] = {0}, products[TAPS * TAPS] = {0}, count = (double)(shape->batch * l->rows * l->columns);
    float shift = l->columns <= SMALL ? 0 : centre_mean(x, channel, l); /* which rounds the few values of small maps */
    for (integer start = 0; start < shape->batch; start += l->images) {
        Planes planes = planes_of(x, channel, start, l, shape->height * shape->width);
        for (integer r = 0; r < l->padded; r++) {
            float *row = buffer + r % SIDE * SIDE * l->line;
            take_row(&planes, l, r, shift, row);
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

/* x -> mean (C, 9), covariance (C, 9, 9) of its patches. */
int moments(const Shape *shape, const float *x, double *mean, double *covariance, int threads) {
    Task task = {.x = x, .means = mean, .covariances = covariance};
    return each_channel(shape, &task, channel_moments, SIDE * SIDE, threads);
}

static void convolve_channel(const Task *task, integer channel, const Lines *l, float *buffer) {
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
            take_row(&planes, l, r, shift, buffer + r % SIDE * SIDE * line);
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

/* y (N, C, rows, columns) = kernel (C, 9) over the patches less their mean, plus bias (C). */
int convolve(
    const Shape *shape, const float *x, const float *mean, const float *kernel, const float *bias, float *y,
    int threads) {
    Task task = {.x = x, .mean = mean, .kernel = kernel, .bias = bias, .y = y};
    return each_channel(shape, &task, convolve_channel, SIDE * SIDE + 1, threads);
}

static void kernel_gradient(const Task *task, integer channel, const Lines *l, float *buffer) {
    const Shape *shape = &l->shape;
    const float *x = task->x, *grad_output = task->grad_output, *mean = task->mean + channel * TAPS;
    float shift = mean[TAPS / 2], *weights = buffer + SIDE * SIDE * l->line;
    double sums[TAPS] = {0}, all = 0;
    for (integer start = 0; start < shape->batch; start += l->images) {
        Planes planes = planes_of(x, channel, start, l, shape->height * shape->width);
        Planes outputs = planes_of(grad_output, channel, start, l, l->rows * l->columns);
        for (integer r = 0; r < l->padded; r++) {
            integer i;
            take_row(&planes, l, r, shift, buffer + r % SIDE * SIDE * l->line);
            if (!output_row(l, r, SIDE - 1, &i)) continue;
            take_line(&outputs, l, i, 0, weights);
            const float *upper = buffer + (r - 2) % SIDE * SIDE * l->line;
            const float *middle = buffer + (r - 1) % SIDE * SIDE * l->line;
            dots_with(weights, upper, middle, buffer + r % SIDE * SIDE * l->line, l->line, sums, &all);
        }
    }
    EACH_TAP task->grad_weight[channel * TAPS + t] = (float)(sums[t] - all * ((double)mean[t] - shift));
    task->grad_bias[channel] = (float)all;
}

/* The gradients of convolve: to kernel (C, 9) and to bias (C). */
int parameter_gradients(
    const Shape *shape, const float *x, const float *mean, const float *grad_output, float *grad_weight, float *grad_bias,
    int threads) {
    Task task = {.x = x, .mean = mean, .grad_output = grad_output, .grad_weight = grad_weight, .grad_bias = grad_bias};
    return each_channel(shape, &task, kernel_gradient, SIDE * SIDE + 1, threads);
}

#define REACH 5 /* rows around a row of x that share a patch with it */

/* What a row of x receives: from the rows d - 2 beside it, by the columns of two taps; and a constant. */
typedef struct {
    int ready;
    float from[REACH][SIDE][SIDE], constant[SIDE];
} Weights;

static void prepare(Weights *w, int taken, const float *weights, const double *constants) {
    memset(w, 0, sizeof *w);
    w->ready = 1;
    for (int a = 0; a < SIDE; a++) {
        if (!(taken >> a & 1)) continue;
        for (int b = 0; b < SIDE; b++) {
            w->constant[b] += (float)constants[SIDE * a + b];
            EACH_TAP w->from[t / SIDE - a + 2][b][t % SIDE] += weights[(SIDE * a + b) * TAPS + t];
        }
    }
}

/* out = constant + the sum of lines by their weights, three times. */
static inline void give_lines(
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

/* out += what rows of patches give by their weights. */
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

/* What a row's values receive as columns 0, 1 and 2 of a kernel, joined: at stride 1 in the line of column 1, at stride
   2 in it (even values) and in that of column 2 (odd ones). */
static void join(float *received, const Lines *l, integer images) {
    float *restrict left = received, *restrict own = left + l->line, *restrict right = own + l->line;
    integer columns = l->columns, last = l->line - 1, used = images * columns;
    for (integer start = 0; start < used; start += columns) { /* what padding would receive */
        left[start] = 0;
        if (l->shape.stride == 1) right[start + columns - 1] = 0;
    }
    if (used <= last) left[used] = 0;
    if (l->shape.stride == 2) {
        for (integer j = 0; j < last; j++) right[j] += left[j + 1];
        return;
    }
    own[0] += left[1];
    for (integer j = 1; j < last; j++) own[j] = own[j] + left[j + 1] + right[j - 1];
    own[last] += right[last - 1];
}

/* An image's row of x from what was joined. */
static void put_row(const float *received, const Lines *l, integer image, float *restrict out) {
    const float *restrict own = received + l->line + image * l->columns, *restrict odd = own + l->line;
    integer width = l->shape.width;
    if (l->shape.stride == 1) {
        memcpy(out, own, sizeof(float) * width);
        return;
    }
    for (integer j = 0; j < width / 2; j++) out[2 * j] = own[j], out[2 * j + 1] = odd[j];
    if (width % 2) out[width - 1] = own[width / 2];
}

typedef struct {
    float *patches, *outputs, *received; /* REACH rows, SIDE + 1 lines of grad_output, one row */
    integer patches_end, outputs_end;    /* the rows taken so far */
} Window;

static void advance(
    Window *window, const Planes *x, const Planes *y, const Lines *l, integer row, float shift, float mean_grad) {
    for (; window->patches_end <= row + 2 && window->patches_end < l->padded; window->patches_end++)
        take_row(x, l, window->patches_end, shift, window->patches + window->patches_end % REACH * SIDE * l->line);
    for (; window->outputs_end * l->shape.stride <= row && window->outputs_end < l->rows; window->outputs_end++)
        take_line(y, l, window->outputs_end, mean_grad, window->outputs + window->outputs_end % (SIDE + 1) * l->line);
}

static void receive(
    Window *window, const Lines *l, integer row, Weights *cached, const float *kernel, const float *weights,
    const double *constants) {
    const float *lines[SIDE], *factors[SIDE], *rows[REACH], (*from[REACH])[SIDE];
    integer i, line = l->line;
    int taken = 0, outputs = 0, patches = 0;
    for (int a = 0; a < SIDE; a++) {
        if (!output_row(l, row, a, &i)) continue;
        taken |= 1 << a;
        lines[outputs] = window->outputs + i % (SIDE + 1) * line;
        factors[outputs++] = kernel + SIDE * a;
    }
    Weights *w = cached + taken;
    if (!w->ready) prepare(w, taken, weights, constants);
    for (int d = 0; d < REACH; d++) {
        int used = 0; /* whether a taken row of the kernel reaches there */
        for (int a = 0; a < SIDE; a++) used |= (taken >> a & 1) && d - 2 + a >= 0 && d - 2 + a < SIDE;
        if (!used) continue;
        rows[patches] = window->patches + (row + d - 2) % REACH * SIDE * line;
        from[patches++] = w->from[d];
    }
    float *out = window->received;
    switch (outputs) {
    case 1: give_lines(lines, factors, 1, w->constant, line, out); break;
    case 2: give_lines(lines, factors, 2, w->constant, line, out); break;
    default: give_lines(lines, factors, SIDE, w->constant, line, out);
    }
    int n = 0;
    for (; n + 1 < patches; n += 2) add_rows(rows + n, from + n, 2, line, out);
    if (n < patches) add_rows(rows + n, from + n, 1, line, out);
}

static void input_gradient(const Task *task, integer channel, const Lines *l, float *buffer) {
    const Shape *shape = &l->shape;
    integer plane = shape->height * shape->width;
    const float *mean = task->mean + channel * TAPS, *weights = task->weights + channel * TAPS * TAPS;
    float shift = mean[TAPS / 2];
    Weights cached[1 << SIDE];
    for (int taken = 0; taken < 1 << SIDE; taken++) cached[taken].ready = 0;
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
            receive(&window, l, row, cached, task->kernel + channel * TAPS, weights, constants);
            join(window.received, l, x.images);
            for (integer image = 0; image < x.images; image++) {
                float *out = task->grad_input + ((start + image) * shape->channels + channel) * plane;
                put_row(window.received, l, image, out + (row - 1) * shape->width);
            }
        }
    }
}

/* grad_input (N, C, H, W): a tap gives what it sees kernel * (grad_output - mean_grad) + weights (p - mean); mean_grad (C), weights
   (C, 9, 9), symmetric. */
int input_gradient(
    const Shape *shape, const float *x, const float *mean, const float *grad_output, const float *mean_grad, const float *kernel,
    const float *weights, float *grad_input, int threads) {
    Task task = {
        .x = x, .mean = mean, .grad_output = grad_output, .mean_grad = mean_grad, .kernel = kernel, .weights = weights, .grad_input = grad_input};
    return each_channel(shape, &task, input_gradient, REACH * SIDE + SIDE + 1 + SIDE, threads);
}
