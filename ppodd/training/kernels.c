/* Derivatives of the ConvNet. First a block after its convolution: instance norm, ReLU and 2x2 average pool, in few passes
   over its maps; then convolutions, the optimiser's update, the classifier with its loss, and all of it as one.

   The formulas are those of instance_norm.py, convnet_derivatives.py and classifier.py, which do the same in torch's
   operations.
   Maps lie with channels last. An image's channels go through LANES at a time, so that their pixels stay in the cache
   from pass to pass and the compiler makes vectors of them. Sums over pixels are taken row by row: sums of sums round
   less. No result depends on how many threads there are. Compiled with REAL as float or double. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LANES (128 / (long)sizeof(REAL))
#define INLINE static inline __attribute__((always_inline))
#define EACH for (long l = 0; l < n; l++)

typedef struct { long images, height, width, channels, groups, threads; } Size; /* channels of all groups */

int out_of_memory; /* set where there was none: what a function gives is then worth nothing */

/* Room for so many numbers, or nothing. */
static REAL *room_for(long count) {
    REAL *room = aligned_alloc(64, (count * (long)sizeof(REAL) + 63) / 64 * 64);
    if (!room) {
        _Pragma("omp atomic write")
        out_of_memory = 1;
    }
    return room;
}

/* Calls f for each image and run of channels; n is a constant where there are LANES of them, or half as many. Runs end
   with a network's channels, so that these go through the same code whatever others lie beside them: a compiler may
   contract products and sums otherwise in another copy of it. */
#define ALL(f, ...)                                                                                                    \
    _Pragma("omp parallel for collapse(2) num_threads(s.threads) if (s.threads > 1)")                                  \
    for (long b = 0; b < s.images; b++)                                                                                \
        for (long g_ = 0; g_ < s.groups; g_++)                                                                         \
            for (long c = g_ * (s.channels / s.groups), end = c + s.channels / s.groups; c < end; c += LANES) {        \
                if (end - c >= LANES) f(b, c, LANES, s, __VA_ARGS__);                                                  \
                else if (end - c == LANES / 2) f(b, c, LANES / 2, s, __VA_ARGS__);                                     \
                else f(b, c, end - c, s, __VA_ARGS__);                                                                 \
            }

/* Where a pixel's channels of an image begin. */
INLINE long at(long b, long y, long x, long c, long height, long width, long channels) {
    return ((b * height + y) * width + x) * channels + c;
}
#define AT(y, x) at(b, y, x, c, s.height, s.width, s.channels)
#define POOLED(y, x) at(b, y, x, c, s.height / 2, s.width / 2, s.channels)
#define POOLED_ROWS for (long i = 0; i < s.height / 2; i++)
#define POOLED_COLUMNS for (long j = 0; j < s.width / 2; j++)
#define SQUARE for (long k = 0; k < 4; k++)
#define IN_SQUARE AT(2 * i + k / 2, 2 * j + k % 2)

#define PART 128 /* rows whose sum is one of sums */

INLINE void sum_rows_one(long c, long n, long rows, long columns, const REAL *from, REAL *to) {
    REAL all[LANES];
    EACH all[l] = 0;
    for (long first = 0; first < rows; first += PART) {
        REAL sum[LANES];
        EACH sum[l] = 0;
        for (long r = first; r < first + PART && r < rows; r++) { const REAL *row = from + r * columns + c; EACH sum[l] += row[l]; }
        EACH all[l] += sum[l];
    }
    EACH to[c + l] = all[l];
}

/* The sum of rows [rows, columns], such as those of images: a column's is the same whatever others lie beside it. */
static void sum_rows(long rows, long columns, const REAL *from, REAL *to) {
    for (long c = 0; c < columns; c += LANES) {
        if (columns - c >= LANES) sum_rows_one(c, LANES, rows, columns, from, to);
        else sum_rows_one(c, columns - c, rows, columns, from, to);
    }
}

INLINE void mean_of(const REAL *maps, REAL *mean, long b, long c, long n, Size s) {
    EACH mean[l] = 0;
    for (long y = 0; y < s.height; y++) {
        REAL row[LANES];
        EACH row[l] = 0;
        for (long x = 0; x < s.width; x++) { const REAL *m = maps + AT(y, x); EACH row[l] += m[l]; }
        EACH mean[l] += row[l];
    }
    EACH mean[l] /= s.height * s.width;
}

/* y: maps on the way in, normed on the way out. */
INLINE void forward_one(long b, long c, long n, Size s, REAL *maps, const REAL *scale, const REAL *shift, REAL eps,
                        REAL *pooled, REAL *rstds) {
    REAL mean[LANES], power[LANES], rstd[LANES];
    mean_of(maps, mean, b, c, n, s);
    EACH power[l] = 0;
    for (long y = 0; y < s.height; y++) {
        REAL row[LANES];
        EACH row[l] = 0;
        for (long x = 0; x < s.width; x++) {
            const REAL *m = maps + AT(y, x);
            EACH { REAL centred = m[l] - mean[l]; row[l] += centred * centred; }
        }
        EACH power[l] += row[l];
    }
    EACH rstd[l] = rstds[b * s.channels + c + l] = 1 / (REAL)sqrt(power[l] / (s.height * s.width) + eps);
    for (long y = 0; y < s.height; y++)
        for (long x = 0; x < s.width; x++) { REAL *m = maps + AT(y, x); EACH m[l] = (m[l] - mean[l]) * rstd[l]; }
    POOLED_ROWS POOLED_COLUMNS {
        REAL sum[LANES];
        EACH sum[l] = 0;
        SQUARE {
            const REAL *m = maps + IN_SQUARE;
            EACH { REAL z = m[l] * scale[c + l] + shift[c + l]; sum[l] += z > 0 ? z : 0; }
        }
        REAL *p = pooled + POOLED(i, j);
        EACH p[l] = sum[l] / 4;
    }
}

void forward(Size s, REAL *maps, const REAL *scale, const REAL *shift, double eps, REAL *pooled, REAL *rstds) {
    ALL(forward_one, maps, scale, shift, eps, pooled, rstds)
}

/* maps: normed on the way in, the gradient to what they were before the norm on the way out. */
INLINE void backward_one(long b, long c, long n, Size s, const REAL *g, REAL *maps, const REAL *rstds, const REAL *scale,
                         const REAL *shift, REAL *to_scale, REAL *to_shift) {
    REAL by_normed[LANES], constant[LANES], factor[LANES];
    EACH by_normed[l] = constant[l] = 0;
    POOLED_ROWS {
        REAL row_normed[LANES], row_constant[LANES];
        EACH row_normed[l] = row_constant[l] = 0;
        POOLED_COLUMNS {
            const REAL *from = g + POOLED(i, j);
            SQUARE {
                const REAL *m = maps + IN_SQUARE;
                EACH {
                    REAL gz = m[l] * scale[c + l] + shift[c + l] > 0 ? from[l] / 4 : 0;
                    row_normed[l] += gz * m[l];
                    row_constant[l] += gz;
                }
            }
        }
        EACH { by_normed[l] += row_normed[l]; constant[l] += row_constant[l]; }
    }
    EACH {
        to_scale[b * s.channels + c + l] = by_normed[l];
        to_shift[b * s.channels + c + l] = constant[l];
        by_normed[l] /= s.height * s.width;
        constant[l] /= s.height * s.width;
        factor[l] = rstds[b * s.channels + c + l] * scale[c + l];
    }
    for (long y = 0; y < s.height; y++)
        for (long x = 0; x < s.width; x++) {
            int inside = y / 2 < s.height / 2 && x / 2 < s.width / 2; /* a last odd row or column is not pooled */
            const REAL *from = inside ? g + POOLED(y / 2, x / 2) : scale + c;
            REAL share = inside ? 0.25 : 0, *m = maps + AT(y, x);
            EACH {
                REAL gz = m[l] * scale[c + l] + shift[c + l] > 0 ? share * from[l] : 0;
                m[l] = factor[l] * (gz - constant[l] - m[l] * by_normed[l]);
            }
        }
}

void backward(Size s, const REAL *g, REAL *maps, const REAL *rstds, const REAL *scale, const REAL *shift, REAL *to_scale,
              REAL *to_shift) {
    const long numbers = s.images * s.channels;
    REAL *by_image = room_for(2 * numbers);
    if (!by_image) return;
    ALL(backward_one, g, maps, rstds, scale, shift, by_image, by_image + numbers)
    sum_rows(s.images, s.channels, by_image, to_scale);
    sum_rows(s.images, s.channels, by_image + numbers, to_shift);
    free(by_image);
}

/* Maps and their tangents (`dots`): normed on the way out. */
INLINE void forward_along_one(long b, long c, long n, Size s, REAL *dots, REAL *maps, const REAL *scale_dot,
                              const REAL *scale, const REAL *shift_dot, const REAL *shift, REAL eps, REAL *pooled_dot,
                              REAL *pooled, REAL *rstds, REAL *slopes) {
    REAL mean[LANES], mean_dot[LANES], power[LANES], common[LANES], rstd[LANES], slope[LANES];
    mean_of(maps, mean, b, c, n, s);
    mean_of(dots, mean_dot, b, c, n, s);
    EACH power[l] = common[l] = 0;
    for (long y = 0; y < s.height; y++) {
        REAL row[LANES], row_common[LANES];
        EACH row[l] = row_common[l] = 0;
        for (long x = 0; x < s.width; x++) {
            const REAL *m = maps + AT(y, x), *d = dots + AT(y, x);
            EACH {
                REAL centred = m[l] - mean[l];
                row[l] += centred * centred;
                row_common[l] += centred * (d[l] - mean_dot[l]);
            }
        }
        EACH { power[l] += row[l]; common[l] += row_common[l]; }
    }
    EACH {
        rstds[b * s.channels + c + l] = rstd[l] = 1 / (REAL)sqrt(power[l] / (s.height * s.width) + eps);
        slopes[b * s.channels + c + l] = slope[l] = common[l] / (s.height * s.width) * rstd[l];
    }
    for (long y = 0; y < s.height; y++)
        for (long x = 0; x < s.width; x++) {
            REAL *m = maps + AT(y, x), *d = dots + AT(y, x);
            EACH {
                m[l] = (m[l] - mean[l]) * rstd[l];
                d[l] = (d[l] - mean_dot[l] - slope[l] * m[l]) * rstd[l];
            }
        }
    POOLED_ROWS POOLED_COLUMNS {
        REAL sum[LANES], sum_dot[LANES];
        EACH sum[l] = sum_dot[l] = 0;
        SQUARE {
            const REAL *m = maps + IN_SQUARE, *d = dots + IN_SQUARE;
            EACH {
                REAL z = m[l] * scale[c + l] + shift[c + l];
                REAL z_dot = m[l] * scale_dot[c + l] + d[l] * scale[c + l] + shift_dot[c + l];
                sum[l] += z > 0 ? z : 0;
                sum_dot[l] += z > 0 ? z_dot : 0;
            }
        }
        REAL *p = pooled + POOLED(i, j), *p_dot = pooled_dot + POOLED(i, j);
        EACH { p[l] = sum[l] / 4; p_dot[l] = sum_dot[l] / 4; }
    }
}

void forward_along(Size s, REAL *both, const REAL *scale_dot, const REAL *scale, const REAL *shift_dot,
                   const REAL *shift, double eps, REAL *pooled, REAL *rstds, REAL *slopes) {
    long maps = s.images * s.height * s.width * s.channels;
    long pool = s.images * (s.height / 2) * (s.width / 2) * s.channels;
    ALL(forward_along_one, both, both + maps, scale_dot, scale, shift_dot, shift, eps, pooled, pooled + pool, rstds,
        slopes)
}

/* dots and maps: normed on the way in; the gradient and its tangent, in this order, on the way out. */
INLINE void backward_along_one(long b, long c, long n, Size s, const REAL *g, const REAL *g_dot, REAL *dots, REAL *maps,
                               const REAL *rstds, const REAL *slopes, const REAL *scale_dot, const REAL *scale,
                               const REAL *shift, REAL *to_scale, REAL *to_shift) {
    REAL by[LANES], by_dot[LANES], one[LANES], one_dot[LANES], factor[LANES], factor_dot[LANES];
    EACH by[l] = by_dot[l] = one[l] = one_dot[l] = 0;
    POOLED_ROWS {
        REAL row[LANES], row_dot[LANES], row_one[LANES], row_one_dot[LANES];
        EACH row[l] = row_dot[l] = row_one[l] = row_one_dot[l] = 0;
        POOLED_COLUMNS {
            const REAL *from = g + POOLED(i, j), *from_dot = g_dot + POOLED(i, j);
            SQUARE {
                const REAL *m = maps + IN_SQUARE, *d = dots + IN_SQUARE;
                EACH {
                    REAL z = m[l] * scale[c + l] + shift[c + l];
                    REAL gz = z > 0 ? from[l] / 4 : 0, gz_dot = z > 0 ? from_dot[l] / 4 : 0;
                    row[l] += gz * m[l];
                    row_one[l] += gz;
                    row_dot[l] += gz_dot * m[l] + gz * d[l];
                    row_one_dot[l] += gz_dot;
                }
            }
        }
        EACH { by[l] += row[l]; by_dot[l] += row_dot[l]; one[l] += row_one[l]; one_dot[l] += row_one_dot[l]; }
    }
    EACH {
        long k = b * s.channels + c + l;
        REAL pixels = s.height * s.width;
        to_scale[k] = by_dot[l];
        to_shift[k] = one_dot[l];
        by[l] /= pixels; by_dot[l] /= pixels; one[l] /= pixels; one_dot[l] /= pixels;
        factor[l] = rstds[k] * scale[c + l];
        factor_dot[l] = rstds[k] * (scale_dot[c + l] - rstds[k] * slopes[k] * scale[c + l]);
    }
    for (long y = 0; y < s.height; y++)
        for (long x = 0; x < s.width; x++) {
            int inside = y / 2 < s.height / 2 && x / 2 < s.width / 2; /* a last odd row or column is not pooled */
            const REAL *from = inside ? g + POOLED(y / 2, x / 2) : scale + c;
            const REAL *from_dot = inside ? g_dot + POOLED(y / 2, x / 2) : scale + c;
            REAL share = inside ? 0.25 : 0, *m = maps + AT(y, x), *d = dots + AT(y, x);
            EACH {
                REAL z = m[l] * scale[c + l] + shift[c + l];
                REAL gz = z > 0 ? share * from[l] : 0, gz_dot = z > 0 ? share * from_dot[l] : 0;
                REAL rest = gz - one[l] - m[l] * by[l];
                REAL rest_dot = gz_dot - one_dot[l] - d[l] * by[l] - m[l] * by_dot[l];
                d[l] = factor[l] * rest;
                m[l] = factor_dot[l] * rest + factor[l] * rest_dot;
            }
        }
}

void backward_along(Size s, const REAL *g, REAL *both, const REAL *rstds, const REAL *slopes, const REAL *scale_dot,
                    const REAL *scale, const REAL *shift, REAL *to_scale, REAL *to_shift) {
    long maps = s.images * s.height * s.width * s.channels;
    long pool = s.images * (s.height / 2) * (s.width / 2) * s.channels;
    const long numbers = s.images * s.channels;
    REAL *by_image = room_for(2 * numbers);
    if (!by_image) return;
    ALL(backward_along_one, g, g + pool, both, both + maps, rstds, slopes, scale_dot, scale, shift, by_image,
        by_image + numbers)
    sum_rows(s.images, s.channels, by_image, to_scale);
    sum_rows(s.images, s.channels, by_image + numbers, to_shift);
    free(by_image);
}

/* Below, a vector at a time: these loops are short, and compilers do not see what may stay in registers. */

#if defined __AVX512F__
#define BYTES 64
#elif defined __AVX__
#define BYTES 32
#else
#define BYTES 16
#endif
#define WIDE (BYTES / (long)sizeof(REAL)) /* of the processor's own: wider ones go through memory */
typedef REAL Vector __attribute__((vector_size(BYTES)));

long lanes(void) { return WIDE; }

INLINE Vector load(const REAL *from, long n) {
    Vector v = {0};
    memcpy(&v, from, n * sizeof(REAL));
    return v;
}
INLINE void store(REAL *to, Vector v, long n) { memcpy(to, &v, n * sizeof(REAL)); }

/* Calls f for each run of channels; n is a constant where there are WIDE of them. */
#define ALL_CHANNELS(channels, f, ...)                                                                                 \
    for (long c = 0; c < channels; c += WIDE) {                                                                        \
        if (channels - c >= WIDE) f(c, WIDE, __VA_ARGS__);                                                             \
        else f(c, channels - c, __VA_ARGS__);                                                                          \
    }

/* Winograd's F(4x4, 3x3), as in convolution.py: between maps [B, h, w, C] and tiles inside, [36, B, h/4, w/4, C].
   These are its transforms of a line of a tile, whose numbers are `s` apart; twice they are those of the tile. */

INLINE void image_in(const Vector *a, Vector *o, long s) {
    Vector p = a[4 * s] - 4 * a[2 * s], q = a[3 * s] - 4 * a[s], r = a[4 * s] - a[2 * s], t = 2 * (a[3 * s] - a[s]);
    o[0] = 4 * a[0] - 5 * a[2 * s] + a[4 * s];
    o[s] = p + q;
    o[2 * s] = p - q;
    o[3 * s] = r + t;
    o[4 * s] = r - t;
    o[5 * s] = 4 * a[s] - 5 * a[3 * s] + a[5 * s];
}
INLINE void image_out(const Vector *a, Vector *o, long s) {
    Vector p = a[s] + a[2 * s], q = a[s] - a[2 * s], r = a[3 * s] + a[4 * s], t = a[3 * s] - a[4 * s];
    o[0] = 4 * a[0];
    o[s] = -4 * q - 2 * t + 4 * a[5 * s];
    o[2 * s] = -5 * a[0] - 4 * p - r;
    o[3 * s] = q + 2 * t - 5 * a[5 * s];
    o[4 * s] = a[0] + p + r;
    o[5 * s] = a[5 * s];
}
INLINE void map_out(const Vector *a, Vector *o, long s) {
    Vector p = a[s] + a[2 * s], q = a[s] - a[2 * s], r = a[3 * s] + a[4 * s], t = a[3 * s] - a[4 * s];
    o[0] = a[0] + p + r;
    o[s] = q + 2 * t;
    o[2 * s] = p + 4 * r;
    o[3 * s] = q + 8 * t + a[5 * s];
}
INLINE void map_in(const Vector *a, Vector *o, long s) {
    Vector p = a[0] + a[2 * s], q = a[s] + a[3 * s], r = a[0] + 4 * a[2 * s], t = 2 * a[s] + 8 * a[3 * s];
    o[0] = a[0];
    o[s] = p + q;
    o[2 * s] = p - q;
    o[3 * s] = r + t;
    o[4 * s] = r - t;
    o[5 * s] = a[3 * s];
}

/* Both axes of a tile of 6x6 places, of which the first `columns` are filled. */
#define TWICE(line, t, columns)                                                                                        \
    for (long l = 0; l < columns; l++) {                                                                               \
        Vector u[36];                                                                                                  \
        line(t + l, u, 6);                                                                                             \
        for (long k = 0; k < 6; k++) t[6 * k + l] = u[6 * k];                                                          \
    }                                                                                                                  \
    for (long l = 0; l < 6; l++) {                                                                                     \
        Vector u[6];                                                                                                   \
        line(t + 6 * l, u, 1);                                                                                         \
        for (long k = 0; k < 6; k++) t[6 * l + k] = u[k];                                                              \
    }

#define TILES                                                                                                          \
    for (long i = 0; i < s.height / 4; i++)                                                                            \
        for (long j = 0; j < s.width / 4; j++)
#define ALL_IMAGES                                                                                                     \
    _Pragma("omp parallel for num_threads(s.threads) if (s.threads > 1)") for (long b = 0; b < s.images; b++)

/* Where the first of the 36 numbers of a tile is; the next ones are `apart`. */
INLINE long tile(Size s, long b, long i, long j) { return ((b * (s.height / 4) + i) * (s.width / 4) + j) * s.channels; }
INLINE long apart(Size s) { return s.images * (s.height / 4) * (s.width / 4) * s.channels; }
INLINE int within(Size s, long y, long x) { return y >= 0 && y < s.height && x >= 0 && x < s.width; }

INLINE void image_inside_one(long c, long n, Size s, const REAL *image, REAL *inside, long b, long i, long j) {
    Vector t[36];
    for (long k = 0; k < 36; k++) {
        long y = 4 * i + k / 6 - 1, x = 4 * j + k % 6 - 1;
        t[k] = within(s, y, x) ? load(image + AT(y, x), n) : (Vector){0};
    }
    TWICE(image_in, t, 6)
    for (long k = 0; k < 36; k++) store(inside + k * apart(s) + tile(s, b, i, j) + c, t[k], n);
}

void image_inside(Size s, const REAL *image, REAL *inside) {
    ALL_IMAGES TILES ALL_CHANNELS(s.channels, image_inside_one, s, image, inside, b, i, j)
}

INLINE void image_outside_one(long c, long n, Size s, const REAL *inside, REAL *image, long b, long i, long j) {
    Vector t[36];
    for (long k = 0; k < 36; k++) t[k] = load(inside + k * apart(s) + tile(s, b, i, j) + c, n);
    TWICE(image_out, t, 6)
    for (long k = 0; k < 36; k++) {
        long y = 4 * i + k / 6 - 1, x = 4 * j + k % 6 - 1;
        if (within(s, y, x)) store(image + AT(y, x), load(image + AT(y, x), n) + t[k], n);
    }
}

void image_outside(Size s, const REAL *inside, REAL *image) {
    ALL_IMAGES {
        memset(image + b * s.height * s.width * s.channels, 0, s.height * s.width * s.channels * sizeof(REAL));
        TILES ALL_CHANNELS(s.channels, image_outside_one, s, inside, image, b, i, j)
    }
}

INLINE void map_inside_one(long c, long n, Size s, const REAL *map, REAL *inside, long b, long i, long j) {
    Vector t[36];
    for (long k = 0; k < 16; k++) t[6 * (k / 4) + k % 4] = load(map + AT(4 * i + k / 4, 4 * j + k % 4), n);
    TWICE(map_in, t, 4)
    for (long k = 0; k < 36; k++) store(inside + k * apart(s) + tile(s, b, i, j) + c, t[k], n);
}

void map_inside(Size s, const REAL *map, REAL *inside) {
    ALL_IMAGES TILES ALL_CHANNELS(s.channels, map_inside_one, s, map, inside, b, i, j)
}

INLINE void map_outside_one(long c, long n, Size s, const REAL *inside, REAL *map, long b, long i, long j) {
    Vector t[36];
    for (long k = 0; k < 36; k++) t[k] = load(inside + k * apart(s) + tile(s, b, i, j) + c, n);
    for (long l = 0; l < 6; l++) { Vector u[24]; map_out(t + l, u, 6); for (long k = 0; k < 4; k++) t[6 * k + l] = u[6 * k]; }
    for (long l = 0; l < 4; l++) {
        Vector u[4];
        map_out(t + 6 * l, u, 1);
        for (long k = 0; k < 4; k++) store(map + AT(4 * i + l, 4 * j + k), u[k], n);
    }
}

void map_outside(Size s, const REAL *inside, REAL *map) {
    ALL_IMAGES TILES ALL_CHANNELS(s.channels, map_outside_one, s, inside, map, b, i, j)
}

/* A 3x3 convolution of few channels to many, such as a ConvNet's first: images x [B, h, w, G*C] with their padding in
   place, weights [G, 9, C, O], where those of the outputs lie side by side, maps y [B, h-2, w-2, G*O]. */

typedef struct { long images, height, width, groups, channels, out, padding, threads; } Few;

#define FEW 4  /* channels at most */
#define MOST 4 /* pixels at a time */
#define X(y, x) (((b * s.height + (y)) * s.width + (x)) * s.groups + g) * s.channels
#define Y(y, x) (((b * (s.height - 2) + (y)) * (s.width - 2) + (x)) * s.groups + g) * s.out
#define W(t, k) ((g * 9 + (t)) * s.channels + (k)) * s.out
#define UNROLLED _Pragma("GCC unroll 16")
#define GROUPS for (long g = 0; g < s.groups; g++)
/* Calls f with so many channels as a constant. */
#define BY_CHANNELS(f, ...)                                                                                            \
    switch (s.channels) {                                                                                              \
        case 1: f(1, __VA_ARGS__); break;                                                                              \
        case 2: f(2, __VA_ARGS__); break;                                                                              \
        case 3: f(3, __VA_ARGS__); break;                                                                              \
        default: f(4, __VA_ARGS__);                                                                                    \
    }

INLINE void few_forward_one(long c, long n, Few s, const REAL *images, const REAL *weights, REAL *maps, long b, long g,
                            long y, long x, const long pixels) {
    Vector sum[MOST] = {{0}};
    for (long t = 0; t < 9; t++)
        for (long k = 0; k < s.channels; k++) {
            Vector w = load(weights + W(t, k) + c, n);
            const REAL *from = images + X(y + t / 3, x + t % 3) + k;
            UNROLLED for (long p = 0; p < pixels; p++) sum[p] += w * from[p * s.groups * s.channels];
        }
    for (long p = 0; p < pixels; p++) store(maps + Y(y, x + p) + c, sum[p], n);
}

void few_forward(Few s, const REAL *images, const REAL *weights, REAL *maps) {
    ALL_IMAGES for (long y = 0; y < s.height - 2; y++) GROUPS {
        long x = 0;
        for (; x + MOST <= s.width - 2; x += MOST)
            ALL_CHANNELS(s.out, few_forward_one, s, images, weights, maps, b, g, y, x, MOST)
        for (; x < s.width - 2; x++) ALL_CHANNELS(s.out, few_forward_one, s, images, weights, maps, b, g, y, x, 1)
    }
}

/* What pixels of a map give to the 9 taps' channels that they come from: [pixels, TAPS], from weights [G, O, TAPS]. */
#define TAPS(channels) ((9 * (channels) + WIDE - 1) / WIDE)

INLINE void few_taps(const long channels, Few s, const REAL *to_map, const REAL *weights, Vector *taps,
                     const long pixels) {
    Vector sum[4][TAPS(FEW)] = {{{0}}};
    for (long o = 0; o < s.out; o++)
        UNROLLED for (long v = 0; v < TAPS(channels); v++) {
            Vector w = load(weights + (o * TAPS(channels) + v) * WIDE, WIDE);
            UNROLLED for (long p = 0; p < pixels; p++) sum[p][v] += w * to_map[p * s.groups * s.out + o];
        }
    UNROLLED for (long p = 0; p < pixels; p++)
        UNROLLED for (long v = 0; v < TAPS(channels); v++) taps[p * TAPS(channels) + v] = sum[p][v];
}

/* The pixels of an image without padding; space for the taps of a map's pixels. */
INLINE void few_image_one(const long channels, Few s, const REAL *to_maps, const REAL *weights, REAL *to_images, long b,
                          long g, Vector *space) {
    long width = s.width - 2 * s.padding, height = s.height - 2 * s.padding, columns = s.width - 2, rows = s.height - 2;
    const REAL *w = weights + g * s.out * TAPS(channels) * WIDE, *taps = (const REAL *)space;
    for (long y = 0; y < rows; y++) {
        Vector *line = space + y * columns * TAPS(channels);
        long x = 0;
        for (; x + 4 <= columns; x += 4) few_taps(channels, s, to_maps + Y(y, x), w, line + x * TAPS(channels), 4);
        for (; x < columns; x++) few_taps(channels, s, to_maps + Y(y, x), w, line + x * TAPS(channels), 1);
    }
    for (long y = 0; y < height; y++)
        for (long x = 0; x < width; x++) {
            REAL sum[FEW] = {0};
            UNROLLED for (long t = 0; t < 9; t++) {
                long at_y = y + s.padding - t / 3, at_x = x + s.padding - t % 3;
                if (at_y < 0 || at_y >= rows || at_x < 0 || at_x >= columns) continue;
                const REAL *from = taps + (at_y * columns + at_x) * TAPS(channels) * WIDE + t * channels;
                for (long k = 0; k < channels; k++) sum[k] += from[k];
            }
            REAL *to = to_images + (((b * height + y) * width + x) * s.groups + g) * channels;
            for (long k = 0; k < channels; k++) to[k] = sum[k];
        }
}

void few_image(Few s, const REAL *to_maps, const REAL *weights, REAL *to_images) {
    ALL_IMAGES {
        Vector *space = (Vector *)room_for((s.height - 2) * (s.width - 2) * TAPS(s.channels) * WIDE);
        if (!space) continue;
        GROUPS BY_CHANNELS(few_image_one, s, to_maps, weights, to_images, b, g, space)
        free(space);
    }
}

INLINE void few_weight_one(long c, long n, const long channels, Few s, const REAL *images, const REAL *to_maps,
                           REAL *to_weights, long b, long g, long row) {
    Vector sum[3 * FEW] = {{0}};
    for (long y = 0; y < s.height - 2; y++) {
        Vector line[3 * FEW] = {{0}};
        for (long x = 0; x < s.width - 2; x++) {
            Vector to_map = load(to_maps + Y(y, x) + c, n);
            for (long t = 0; t < 3; t++)
                for (long k = 0; k < channels; k++) line[t * channels + k] += to_map * images[X(y + row, x + t) + k];
        }
        for (long i = 0; i < 3 * channels; i++) sum[i] += line[i];
    }
    REAL *to = to_weights + b * s.groups * 9 * s.channels * s.out;
    for (long i = 0; i < 3 * channels; i++) store(to + W(3 * row, i) + c, sum[i], n);
}

INLINE void few_weight_of(const long channels, Few s, const REAL *images, const REAL *to_maps, REAL *to_weights, long b,
                          long g, long row) {
    ALL_CHANNELS(s.out, few_weight_one, channels, s, images, to_maps, to_weights, b, g, row)
}

/* Weights [G, 9, C, O] as a parameter is, [O, C, 9] of each network, which are `apart` from each other. */
static void weights_as_given(long groups, long channels, long out, const REAL *weights, REAL *to, long apart) {
    for (long g = 0; g < groups; g++)
        for (long t = 0; t < 9; t++)
            for (long k = 0; k < channels; k++)
                for (long o = 0; o < out; o++)
                    to[g * apart + (o * channels + k) * 9 + t] = weights[((g * 9 + t) * channels + k) * out + o];
}

static void few_weight_apart(Few s, const REAL *images, const REAL *to_maps, REAL *to_weights, long apart) {
    const long size = s.groups * 9 * s.channels * s.out;
    REAL *by_image = room_for((s.images + 1) * size), *sum = by_image + s.images * size;
    if (!by_image) return;
    ALL_IMAGES GROUPS for (long row = 0; row < 3; row++)
        BY_CHANNELS(few_weight_of, s, images, to_maps, by_image, b, g, row)
    sum_rows(s.images, size, by_image, sum);
    weights_as_given(s.groups, s.channels, s.out, sum, to_weights, apart);
    free(by_image);
}

void few_weight(Few s, const REAL *images, const REAL *to_maps, REAL *to_weights) {
    few_weight_apart(s, images, to_maps, to_weights, 9 * s.channels * s.out);
}

/* Below, sums stay in registers, of which AVX-512 has twice as many: so many rows by so many vectors. */
#ifdef __AVX512F__
#define AT_ONCE 12
#define ROWS 8 /* of the gradient of weights */
#else
#define AT_ONCE 6
#define ROWS 4
#endif
#define VECTORS 2
#define PANEL (VECTORS * WIDE)

/* A 3x3 convolution of padding 1 from and to whole vectors of channels, for small maps: images x [B, h, w, G*C], weights
   [G, 9, C, O], maps y [B, h, w, G*O]. One pixel of some images at a time, so that taps beside the image are left out. */

typedef struct { long images, height, width, groups, channels, out, mirrored, threads; } Small;


INLINE void small_product_one(const long run, const long vectors, long c, Small s, const REAL *images,
                              const REAL *weights, REAL *maps, long g, long y, long x, long first) {
    Vector sum[AT_ONCE][2] = {{{0}}};
    const long image = s.height * s.width * s.groups * s.channels;
    for (long t = 0; t < 9; t++) {
        long down = y + t / 3 - 1, right = x + t % 3 - 1;
        if (down < 0 || down >= s.height || right < 0 || right >= s.width) continue;
        const REAL *w = weights + (g * 9 + (s.mirrored ? 8 - t : t)) * s.channels * s.out + c, *from[AT_ONCE];
        for (long p = 0; p < run; p++) {
            long b = first + p < s.images ? first + p : s.images - 1;
            from[p] = images + b * image + ((down * s.width + right) * s.groups + g) * s.channels;
        }
        for (long k = 0; k < s.channels; k++) {
            Vector w0 = load(w + k * s.out, WIDE), w1 = vectors > 1 ? load(w + k * s.out + WIDE, WIDE) : w0;
            UNROLLED for (long p = 0; p < run; p++) {
                sum[p][0] += w0 * from[p][k];
                if (vectors > 1) sum[p][1] += w1 * from[p][k];
            }
        }
    }
    for (long p = 0; p < run && first + p < s.images; p++)
        for (long v = 0; v < vectors; v++) {
            long pixel = ((first + p) * s.height + y) * s.width + x;
            store(maps + (pixel * s.groups + g) * s.out + c + v * WIDE, sum[p][v], WIDE);
        }
}

INLINE void small_product_of(const long run, Small s, const REAL *images, const REAL *weights, REAL *maps, long g, long y,
                             long x) {
    for (long first = 0; first < s.images; first += run)
        for (long c = 0; c < s.out; c += PANEL) {
            if (s.out - c > WIDE) small_product_one(run, VECTORS, c, s, images, weights, maps, g, y, x, first);
            else small_product_one(run, 1, c, s, images, weights, maps, g, y, x, first);
        }
}

void small_product(Small s, const REAL *images, const REAL *weights, REAL *maps) {
    long runs = (s.images + AT_ONCE - 1) / AT_ONCE, run = (s.images + runs - 1) / runs; /* of about one length */
    _Pragma("omp parallel for collapse(3) num_threads(s.threads) if (s.threads > 1)")
    for (long g = 0; g < s.groups; g++)
        for (long y = 0; y < s.height; y++)
            for (long x = 0; x < s.width; x++) {
                if (AT_ONCE > 10 && run > 10) small_product_of(12, s, images, weights, maps, g, y, x);
                else if (AT_ONCE > 8 && run > 8) small_product_of(10, s, images, weights, maps, g, y, x);
                else if (AT_ONCE > 6 && run > 6) small_product_of(8, s, images, weights, maps, g, y, x);
                else if (run > 4) small_product_of(6, s, images, weights, maps, g, y, x);
                else small_product_of(4, s, images, weights, maps, g, y, x);
            }
}

/* To a sum: the outer product of the vectors at `maps`, of a gradient, and ROWS numbers of images. */
#define ADD_OUTER(maps, images)                                                                                        \
    Vector g0 = load(maps, WIDE), g1 = vectors > 1 ? load((maps) + WIDE, WIDE) : g0;                                   \
    UNROLLED for (long i = 0; i < ROWS; i++) {                                                                         \
        sum[i][0] += g0 * images[i];                                                                                   \
        if (vectors > 1) sum[i][1] += g1 * images[i];                                                                  \
    }
/* Sums of sums, for the sake of rounding. */
#define ADD_SUM                                                                                                        \
    for (long i = 0; i < ROWS; i++)                                                                                    \
        for (long v = 0; v < vectors; v++) all[i][v] += sum[i][v];

INLINE void small_weight_one(const long vectors, long c, Small s, const REAL *images, const REAL *to_maps,
                             REAL *to_weights, long g, long t, long k) {
    Vector all[ROWS][2] = {{{0}}};
    long down = t / 3 - 1, right = t % 3 - 1;
    for (long b = 0; b < s.images; b++) {
        Vector sum[ROWS][2] = {{{0}}};
        for (long y = down < 0; y < s.height - (down > 0); y++)
            for (long x = right < 0; x < s.width - (right > 0); x++) {
                long pixel = (b * s.height + y) * s.width + x;
                const REAL *to_map = to_maps + (pixel * s.groups + g) * s.out + c;
                const REAL *from = images + ((pixel + down * s.width + right) * s.groups + g) * s.channels + k;
                ADD_OUTER(to_map, from)
            }
        ADD_SUM
    }
    for (long r = 0; r < ROWS; r++)
        for (long v = 0; v < vectors; v++)
            store(to_weights + ((g * 9 + t) * s.channels + k + r) * s.out + c + v * WIDE, all[r][v], WIDE);
}

static void small_weight_apart(Small s, const REAL *images, const REAL *to_maps, REAL *to_weights, long apart) {
    REAL *sum = room_for(s.groups * 9 * s.channels * s.out);
    if (!sum) return;
    _Pragma("omp parallel for collapse(3) num_threads(s.threads) if (s.threads > 1)")
    for (long g = 0; g < s.groups; g++)
        for (long t = 0; t < 9; t++)
            for (long k = 0; k < s.channels; k += ROWS)
                for (long c = 0; c < s.out; c += PANEL) {
                    if (s.out - c > WIDE) small_weight_one(VECTORS, c, s, images, to_maps, sum, g, t, k);
                    else small_weight_one(1, c, s, images, to_maps, sum, g, t, k);
                }
    weights_as_given(s.groups, s.channels, s.out, sum, to_weights, apart);
    free(sum);
}

void small_weight(Small s, const REAL *images, const REAL *to_maps, REAL *to_weights) {
    small_weight_apart(s, images, to_maps, to_weights, 9 * s.channels * s.out);
}

/* Products of narrow matrices, as many as there are places in Winograd's domain; a library's are made for wide ones.
   Channels, of which the weights are a matrix, are whole vectors. `from` and `to` are how far the matrices of a batch of
   images and of maps lie apart. */

typedef struct { long batch, rows, from_channels, to_channels, from, to, mirrored, adds, threads; } Narrow;


/* Columns c to c + n of weights, or of their transpose, side by side: [from_channels, PANEL]. */
INLINE void panel_of(Narrow s, const REAL *weights, long c, long n, REAL *panel) {
    for (long k = 0; k < s.from_channels; k++)
        for (long l = 0; l < n; l++)
            panel[k * PANEL + l] = s.mirrored ? weights[(c + l) * s.from_channels + k] : weights[k * s.to_channels + c + l];
}

INLINE void narrow_rows(const long run, const long vectors, Narrow s, const REAL *images, const REAL *panel, REAL *maps) {
    Vector sum[AT_ONCE][2] = {{{0}}};
    if (s.adds)
        for (long p = 0; p < run; p++)
            for (long v = 0; v < vectors; v++) sum[p][v] = load(maps + p * s.to_channels + v * WIDE, WIDE);
    for (long k = 0; k < s.from_channels; k++) {
        Vector w0 = load(panel + k * PANEL, WIDE), w1 = vectors > 1 ? load(panel + k * PANEL + WIDE, WIDE) : w0;
        UNROLLED for (long p = 0; p < run; p++) {
            sum[p][0] += w0 * images[p * s.from_channels + k];
            if (vectors > 1) sum[p][1] += w1 * images[p * s.from_channels + k];
        }
    }
    for (long p = 0; p < run; p++)
        for (long v = 0; v < vectors; v++) store(maps + p * s.to_channels + v * WIDE, sum[p][v], WIDE);
}

INLINE void narrow_columns(const long vectors, Narrow s, const REAL *images, const REAL *panel, REAL *maps) {
    long r = 0;
    for (; r + AT_ONCE <= s.rows; r += AT_ONCE)
        narrow_rows(AT_ONCE, vectors, s, images + r * s.from_channels, panel, maps + r * s.to_channels);
    for (; r + 4 <= s.rows; r += 4)
        narrow_rows(4, vectors, s, images + r * s.from_channels, panel, maps + r * s.to_channels);
    for (; r < s.rows; r++) narrow_rows(1, vectors, s, images + r * s.from_channels, panel, maps + r * s.to_channels);
}

/* Images [batch, rows, from_channels] by weights [batch, from_channels, to_channels], or by mirrored ones. */
void narrow_product(Narrow s, const REAL *images, const REAL *weights, REAL *maps) {
    _Pragma("omp parallel for num_threads(s.threads) if (s.threads > 1)")
    for (long b = 0; b < s.batch; b++) {
        REAL *panel = room_for(s.from_channels * PANEL);
        if (!panel) continue;
        const REAL *w = weights + b * s.from_channels * s.to_channels, *from = images + b * s.from;
        for (long c = 0; c < s.to_channels; c += PANEL) {
            REAL *to = maps + b * s.to + c;
            if (s.to_channels - c > WIDE) { panel_of(s, w, c, PANEL, panel); narrow_columns(VECTORS, s, from, panel, to); }
            else { panel_of(s, w, c, WIDE, panel); narrow_columns(1, s, from, panel, to); }
        }
        free(panel);
    }
}

INLINE void narrow_weight_one(const long vectors, Narrow s, const REAL *images, const REAL *to_maps, REAL *to_weights) {
    Vector all[ROWS][2] = {{{0}}};
    for (long first = 0; first < s.rows; first += PART) {
        Vector sum[ROWS][2] = {{{0}}};
        for (long r = first; r < first + PART && r < s.rows; r++) {
            const REAL *g = to_maps + r * s.to_channels, *from = images + r * s.from_channels;
            ADD_OUTER(g, from)
        }
        ADD_SUM
    }
    for (long k = 0; k < ROWS; k++)
        for (long v = 0; v < vectors; v++) store(to_weights + k * s.to_channels + v * WIDE, all[k][v], WIDE);
}

/* The gradient of the weights, [batch, from_channels, to_channels]. */
void narrow_weight(Narrow s, const REAL *images, const REAL *to_maps, REAL *to_weights) {
    _Pragma("omp parallel for collapse(2) num_threads(s.threads) if (s.threads > 1)")
    for (long b = 0; b < s.batch; b++)
        for (long k = 0; k < s.from_channels; k += ROWS)
            for (long c = 0; c < s.to_channels; c += PANEL) {
                const REAL *from = images + b * s.from + k, *g = to_maps + b * s.to + c;
                REAL *to = to_weights + (b * s.from_channels + k) * s.to_channels + c;
                if (s.to_channels - c > WIDE) narrow_weight_one(VECTORS, s, from, g, to);
                else narrow_weight_one(1, s, from, g, to);
            }
}

/* Adam and its cotangents, as in optimisers.py: of `rows` networks of so many parameters, each with rates of its own.
   `restrict`, for a compiler gives up on vectors where so many arrays might overlap. */

typedef struct { long rows, parameters; double beta1, beta2, eps, root; } Adam;

/* Both moments after a step, and the root of the second without its bias. */
#define MOMENTS                                                                                                        \
    REAL g = gradient[i], m = first[i] + (REAL)(1 - s.beta1) * (g - first[i]);                                         \
    REAL v = (REAL)s.beta2 * second[i] + (REAL)(1 - s.beta2) * g * g;                                                  \
    REAL root = (REAL)sqrt(v / bias[e] + (REAL)s.root);

void adam(Adam s, const REAL *restrict first, const REAL *restrict second, const REAL *restrict gradient,
          const REAL *restrict rate, const REAL *restrict bias, const REAL *restrict theta, REAL *restrict to_theta,
          REAL *restrict to_first, REAL *restrict to_second) {
    for (long e = 0; e < s.rows; e++)
        for (long i = e * s.parameters; i < (e + 1) * s.parameters; i++) {
            MOMENTS
            to_theta[i] = theta[i] - m * rate[e] / (root + (REAL)s.eps);
            to_first[i] = m;
            to_second[i] = v;
        }
}

/* From the cotangents of the state after a step to those of the moments before it, of the gradient and of -rate. */
void adam_cotangents(Adam s, const REAL *restrict first, const REAL *restrict second, const REAL *restrict gradient,
                     const REAL *restrict rate, const REAL *restrict bias, const REAL *restrict theta_bar,
                     const REAL *restrict first_bar, const REAL *restrict second_bar, REAL *restrict to_first,
                     REAL *restrict to_second, REAL *restrict to_gradient, REAL *restrict to_rate) {
    for (long e = 0; e < s.rows; e++) {
        double sum[WIDE] = {0};
        for (long from = e * s.parameters; from < (e + 1) * s.parameters; from += WIDE) {
            long end = from + WIDE < (e + 1) * s.parameters ? from + WIDE : (e + 1) * s.parameters;
            for (long i = from; i < end; i++) {
                MOMENTS
                REAL over = 1 / (root + (REAL)s.eps), step = m * over, by_first = over * theta_bar[i] * rate[e];
                REAL by_second = by_first * step / root * ((REAL)0.5 / bias[e]) + second_bar[i];
                by_first = first_bar[i] - by_first;
                to_gradient[i] = g * by_second * (REAL)(2 * (1 - s.beta2)) + by_first * (REAL)(1 - s.beta1);
                to_first[i] = (REAL)s.beta1 * by_first;
                to_second[i] = (REAL)s.beta2 * by_second;
                sum[i - from] += theta_bar[i] * step;
            }
        }
        to_rate[e] = 0;
        for (long l = 0; l < WIDE; l++) to_rate[e] += sum[l];
    }
}

/* The classifier: features x [B, P, G*C] of P pixels by weights [G, K, C*P], softmax, cross-entropy. Forward and backward
   at once, as in classifier.py; each network by itself, and so to the same bits in any company. Networks' parameters are
   `apart` from each other, and their gradients to weights and to biases as far as is said. */

typedef struct { long images, pixels, groups, channels, classes, apart, weights_apart, biases_apart, threads; } Head;

#define WHOLE(count) (((count) + WIDE - 1) / WIDE * WIDE)
#define EXP(x) (sizeof(REAL) == sizeof(float) ? (REAL)expf((float)(x)) : (REAL)exp((double)(x)))
#define LOG(x) (sizeof(REAL) == sizeof(float) ? (REAL)logf((float)(x)) : (REAL)log((double)(x)))

/* Room that is given out piece by piece; without a base only counted. */
typedef struct { REAL *base; long used; } Space;

static REAL *take(Space *space, long count) {
    REAL *here = space->base ? space->base + space->used : NULL;
    space->used += WHOLE(count);
    return here;
}

/* The features of network g at pixel p of the first image, and how far images lie apart. */
#define FEATURES(p) ((p) * s.groups + g) * s.channels
#define APART (s.pixels * s.groups * s.channels)

INLINE void rows_one(long c, long n, const long run, long inner, const REAL *from, long from_apart, const REAL *by,
                     long by_apart, REAL *to, long to_apart) {
    Vector sum[AT_ONCE];
    for (long r = 0; r < run; r++) sum[r] = load(to + r * to_apart + c, n);
    for (long k = 0; k < inner; k++) {
        Vector w = load(by + k * by_apart + c, WIDE);
        UNROLLED for (long r = 0; r < run; r++) sum[r] += w * from[r * from_apart + k];
    }
    for (long r = 0; r < run; r++) store(to + r * to_apart + c, sum[r], n);
}

/* To rows [rows, columns] is added a product [rows, inner] by [inner, columns], whose rows are whole vectors. */
static void add_rows(long rows, long inner, long columns, const REAL *from, long from_apart, const REAL *by,
                     long by_apart, REAL *to, long to_apart) {
    long r = 0;
    for (; r + AT_ONCE <= rows; r += AT_ONCE)
        ALL_CHANNELS(columns, rows_one, AT_ONCE, inner, from + r * from_apart, from_apart, by, by_apart,
                     to + r * to_apart, to_apart)
    for (; r + 4 <= rows; r += 4)
        ALL_CHANNELS(columns, rows_one, 4, inner, from + r * from_apart, from_apart, by, by_apart, to + r * to_apart,
                     to_apart)
    for (; r < rows; r++)
        ALL_CHANNELS(columns, rows_one, 1, inner, from + r * from_apart, from_apart, by, by_apart, to + r * to_apart,
                     to_apart)
}

INLINE void outer_one(long c, long n, const long run, Head s, long first, long last, const REAL *g, long g_apart,
                      const REAL *x, REAL *to, long to_apart) {
    Vector sum[ROWS] = {{0}};
    for (long b = first; b < last; b++) {
        Vector from = load(x + b * APART + c, n);
        UNROLLED for (long k = 0; k < run; k++) sum[k] += from * g[b * g_apart + k];
    }
    for (long k = 0; k < run; k++) store(to + k * to_apart + c, sum[k] + load(to + k * to_apart + c, WIDE), WIDE);
}

/* To weights [K, C], rows of whole vectors, is added the outer product of gradients `g` and features `x` of one pixel. */
static void add_outer(Head s, const REAL *g, long g_apart, const REAL *x, REAL *to, long to_apart) {
    for (long first = 0; first < s.images; first += PART) {
        long last = first + PART < s.images ? first + PART : s.images, k = 0;
        for (; k + ROWS <= s.classes; k += ROWS)
            ALL_CHANNELS(s.channels, outer_one, ROWS, s, first, last, g + k, g_apart, x, to + k * to_apart, to_apart)
        for (; k < s.classes; k++)
            ALL_CHANNELS(s.channels, outer_one, 1, s, first, last, g + k, g_apart, x, to + k * to_apart, to_apart)
    }
}

/* A network's weights [K, C*P] in both orders that products take them in, their rows filled up to whole vectors:
   [P, C, K] and [P, K, C]. */
typedef struct { REAL *by_channel, *by_class; } Ordered;

static Ordered ordered(Head s, const REAL *weights, Space *space) {
    const long classes = WHOLE(s.classes), channels = WHOLE(s.channels);
    Ordered o = {take(space, s.pixels * s.channels * classes), take(space, s.pixels * s.classes * channels)};
    if (!space->base) return o;
    for (long k = 0; k < s.classes; k++)
        for (long c = 0; c < s.channels; c++)
            for (long p = 0; p < s.pixels; p++) {
                REAL w = weights[(k * s.channels + c) * s.pixels + p];
                o.by_channel[(p * s.channels + c) * classes + k] = o.by_class[(p * s.classes + k) * channels + c] = w;
            }
    return o;
}

static void add_logits(Head s, const REAL *x, long g, const REAL *by_channel, REAL *logits) {
    const long classes = WHOLE(s.classes);
    for (long p = 0; p < s.pixels; p++)
        add_rows(s.images, s.channels, s.classes, x + FEATURES(p), APART, by_channel + p * s.channels * classes, classes,
                 logits, classes);
}
static void add_features(Head s, const REAL *gradients, long g, const REAL *by_class, REAL *to_x) {
    const long channels = WHOLE(s.channels);
    for (long p = 0; p < s.pixels; p++)
        add_rows(s.images, s.classes, s.channels, gradients, WHOLE(s.classes), by_class + p * s.classes * channels,
                 channels, to_x + FEATURES(p), APART);
}
static void add_weights(Head s, const REAL *gradients, const REAL *x, long g, REAL *by_class) {
    const long channels = WHOLE(s.channels);
    for (long p = 0; p < s.pixels; p++)
        add_outer(s, gradients, WHOLE(s.classes), x + FEATURES(p), by_class + p * s.classes * channels, channels);
}
/* [P, K, C] as a parameter is. */
static void weights_out(Head s, const REAL *by_class, REAL *weights) {
    for (long k = 0; k < s.classes; k++)
        for (long c = 0; c < s.channels; c++)
            for (long p = 0; p < s.pixels; p++)
                weights[(k * s.channels + c) * s.pixels + p] = by_class[(p * s.classes + k) * WHOLE(s.channels) + c];
}
static void add_over_images(Head s, const REAL *rows, REAL *to) {
    for (long k = 0; k < s.classes; k++) to[k] = 0;
    for (long b = 0; b < s.images; b++)
        for (long k = 0; k < s.classes; k++) to[k] += rows[b * WHOLE(s.classes) + k];
}

/* An image's logits become their log-softmax; `q` the softmax. */
static void softmax(Head s, REAL *logits, REAL *q) {
    REAL most = logits[0], sum = 0;
    for (long k = 1; k < s.classes; k++) most = logits[k] > most ? logits[k] : most;
    for (long k = 0; k < s.classes; k++) sum += EXP(logits[k] - most);
    for (long k = 0; k < s.classes; k++) {
        logits[k] -= most + LOG(sum);
        q[k] = EXP(logits[k]);
    }
}

/* What is known of one network's classifier: of `kinds` 2 along a direction, else 1. */
typedef struct { Ordered weights[2]; REAL *logits[2], *sums, *q; } Work;

static Work worked(Head s, const REAL *const *weights, long kinds, Space *space) {
    Work w;
    for (long k = 0; k < kinds; k++) {
        w.weights[k] = ordered(s, weights[k], space);
        w.logits[k] = take(space, s.images * WHOLE(s.classes));
    }
    w.sums = take(space, s.pixels * s.classes * WHOLE(s.channels));
    w.q = take(space, WHOLE(s.classes));
    return w;
}

/* Zeroed room for it, or nothing. */
static Space room_of(Head s, long kinds) {
    Space space = {NULL, 0};
    const REAL *none[2] = {NULL, NULL};
    worked(s, none, kinds, &space);
    Space room = {room_for(space.used), 0};
    if (room.base) memset(room.base, 0, space.used * sizeof(REAL));
    return room;
}

static void biases_in(Head s, const REAL *biases, REAL *logits) {
    for (long b = 0; b < s.images; b++) memcpy(logits + b * WHOLE(s.classes), biases, s.classes * sizeof(REAL));
}

#define EACH_NETWORK                                                                                                   \
    _Pragma("omp parallel for num_threads(s.threads) if (s.threads > 1 && s.groups > 1)")                              \
    for (long g = 0; g < s.groups; g++)

/* Labels [G, B, K] are negative, and over the number of images. */
void head(Head s, const REAL *x, const REAL *weights, const REAL *biases, const REAL *labels, REAL *losses, REAL *to_x,
          REAL *to_weights, REAL *to_biases) {
    memset(to_x, 0, s.images * APART * sizeof(REAL));
    EACH_NETWORK {
        Space room = room_of(s, 1);
        if (!room.base) continue;
        const REAL *const own[1] = {weights + g * s.apart};
        const long classes = WHOLE(s.classes);
        Work w = worked(s, own, 1, &room);
        REAL *logits = w.logits[0], loss = 0;
        biases_in(s, biases + g * s.apart, logits);
        add_logits(s, x, g, w.weights[0].by_channel, logits);
        for (long b = 0; b < s.images; b++) {
            const REAL *label = labels + (g * s.images + b) * s.classes;
            REAL *logit = logits + b * classes, of_labels = 0, of_image = 0;
            softmax(s, logit, w.q);
            for (long k = 0; k < s.classes; k++) { of_image += label[k] * logit[k]; of_labels += label[k]; }
            for (long k = 0; k < s.classes; k++) logit[k] = label[k] - w.q[k] * of_labels;
            loss += of_image;
        }
        losses[g] = loss;
        add_features(s, logits, g, w.weights[0].by_class, to_x);
        add_weights(s, logits, x, g, w.sums);
        weights_out(s, w.sums, to_weights + g * s.weights_apart);
        add_over_images(s, logits, to_biases + g * s.biases_apart);
        free(room.base);
    }
}

/* Along a direction: [x'; x] to [g; g'], to the tangents of the gradients to weights and biases, and to the tangents of
   log-softmax [G, B, K]. */
void head_along(Head s, const REAL *both, const REAL *weights_dot, const REAL *weights, const REAL *biases_dot,
                const REAL *biases, const REAL *labels, REAL *to_both, REAL *to_weights, REAL *to_biases,
                REAL *to_logs) {
    const REAL *x_dot = both, *x = both + s.images * APART;
    REAL *to_x = to_both, *to_x_dot = to_both + s.images * APART;
    memset(to_both, 0, 2 * s.images * APART * sizeof(REAL));
    EACH_NETWORK {
        Space room = room_of(s, 2);
        if (!room.base) continue;
        const REAL *const own[2] = {weights + g * s.apart, weights_dot + g * s.apart};
        const long classes = WHOLE(s.classes);
        Work w = worked(s, own, 2, &room);
        REAL *logits = w.logits[0], *dots = w.logits[1];
        biases_in(s, biases + g * s.apart, logits);
        biases_in(s, biases_dot + g * s.apart, dots);
        add_logits(s, x, g, w.weights[0].by_channel, logits);
        add_logits(s, x_dot, g, w.weights[0].by_channel, dots);
        add_logits(s, x, g, w.weights[1].by_channel, dots);
        for (long b = 0; b < s.images; b++) {
            const REAL *label = labels + (g * s.images + b) * s.classes;
            REAL *logit = logits + b * classes, *dot = dots + b * classes, of_labels = 0, mean = 0;
            REAL *log_dot = to_logs + (g * s.images + b) * s.classes;
            softmax(s, logit, w.q);
            for (long k = 0; k < s.classes; k++) { of_labels += label[k]; mean += w.q[k] * dot[k]; }
            for (long k = 0; k < s.classes; k++) {
                log_dot[k] = dot[k] - mean;
                logit[k] = label[k] - w.q[k] * of_labels;
                dot[k] = -w.q[k] * of_labels * log_dot[k];
            }
        }
        add_features(s, logits, g, w.weights[0].by_class, to_x);
        add_features(s, dots, g, w.weights[0].by_class, to_x_dot);
        add_features(s, logits, g, w.weights[1].by_class, to_x_dot);
        add_weights(s, logits, x_dot, g, w.sums);
        add_weights(s, dots, x, g, w.sums);
        weights_out(s, w.sums, to_weights + g * s.weights_apart);
        add_over_images(s, dots, to_biases + g * s.biases_apart);
        free(room.base);
    }
}

/* A whole ConvNet, of several networks side by side: a first convolution of few channels, the others of small maps, so that
   every network is taken by itself. theta [G, D] holds for each block the weights [O, C, 9], a bias that the norm removes,
   scale and shift, then the classifier's weights and biases. Images [G, B, C, h, w] go through `at_once`. */

#define MOST_BLOCKS 6

typedef struct {
    long images, at_once, height, width, groups, channels, classes, padding, blocks, parameters, threads;
    long widths[MOST_BLOCKS];
    double eps;
} Net;

/* A block: the sizes of its maps, where its parameters are, and what is known of it. */
typedef struct {
    long channels, out, height, width, offset;
    REAL *weights[2], *mirrored[2], *scale[2], *shift[2]; /* at the point, and along the direction */
    REAL *maps, *pooled, *rstds, *slopes;                 /* along a direction tangents first */
} Layer;

typedef struct {
    Layer layers[MOST_BLOCKS];
    long classifier, pixels, features; /* where the classifier's parameters are; what it is given */
    REAL *images, *to_images, *labels, *logs, *losses, *theta, *g, *more, *to_scale, *to_shift;
} Plan;

static long larger(long a, long b) { return a > b ? a : b; }

/* Where everything lies in `space`; without a base only how much there is. `kinds`: 2 along a direction, else 1. */
static Plan planned(const Net *s, long kinds, Space *space) {
    Plan p = {.classifier = 0};
    long channels = s->channels, height = s->height + 2 * s->padding - 2, width = s->width + 2 * s->padding - 2;
    long offset = 0, n = s->at_once, most_maps = 0, most_pooled = 0, most_out = 0;
    for (long i = 0; i < s->blocks; i++) {
        Layer *l = p.layers + i;
        *l = (Layer){.channels = channels, .out = s->widths[i], .height = height, .width = width, .offset = offset};
        const long size = 9 * channels * l->out, all = s->groups * l->out;
        for (long k = 0; k < kinds; k++) {
            l->weights[k] = take(space, s->groups * size);
            l->mirrored[k] = take(space, i ? s->groups * size : all * TAPS(channels) * WIDE);
            l->scale[k] = take(space, all);
            l->shift[k] = take(space, all);
        }
        const long maps = kinds * n * height * width * all, pooled = kinds * n * (height / 2) * (width / 2) * all;
        l->maps = take(space, maps);
        l->pooled = take(space, pooled);
        l->rstds = take(space, n * all);
        l->slopes = take(space, n * all);
        most_maps = larger(most_maps, i ? maps / kinds : 0);
        most_pooled = larger(most_pooled, pooled);
        most_out = larger(most_out, all);
        offset += size + 3 * l->out;
        channels = l->out;
        height /= 2;
        width /= 2;
    }
    p.classifier = offset;
    p.pixels = height * width;
    p.features = channels;
    const long sides = (s->height + 2 * s->padding) * (s->width + 2 * s->padding);
    p.images = take(space, n * sides * s->groups * s->channels);
    p.to_images = take(space, 2 * n * s->height * s->width * s->groups * s->channels);
    p.labels = take(space, s->groups * n * s->classes);
    p.logs = take(space, s->groups * n * s->classes);
    p.losses = take(space, s->groups);
    p.theta = take(space, s->groups * s->parameters);
    p.g = take(space, most_pooled);
    p.more = take(space, larger(most_maps, most_pooled));
    p.to_scale = take(space, most_out);
    p.to_shift = take(space, most_out);
    return p;
}

/* How many numbers the functions below need space for. */
long space_of(Net s, long along) {
    Space space = {NULL, 0};
    planned(&s, along ? 2 : 1, &space);
    return space.used;
}

/* The parameters of a point, or of a direction, in the orders that convolutions take them in. */
static void parameters_in(const Net *s, Plan *p, long kind, const REAL *theta) {
    for (long i = 0; i < s->blocks; i++) {
        const Layer *l = p->layers + i;
        const long channels = l->channels, out = l->out, taps = TAPS(channels) * WIDE;
        if (!i) memset(l->mirrored[kind], 0, s->groups * out * taps * sizeof(REAL));
        for (long g = 0; g < s->groups; g++) {
            const REAL *from = theta + g * s->parameters + l->offset, *rest = from + 9 * channels * out + out;
            for (long o = 0; o < out; o++)
                for (long k = 0; k < channels; k++)
                    for (long t = 0; t < 9; t++) {
                        REAL w = from[(o * channels + k) * 9 + t];
                        l->weights[kind][((g * 9 + t) * channels + k) * out + o] = w;
                        if (i) l->mirrored[kind][((g * 9 + t) * out + o) * channels + k] = w;
                        else l->mirrored[kind][(g * out + o) * taps + t * channels + k] = w;
                    }
            memcpy(l->scale[kind] + g * out, rest, out * sizeof(REAL));
            memcpy(l->shift[kind] + g * out, rest + out, out * sizeof(REAL));
        }
    }
}

/* Some images with their padding, channels last; labels negative, and over the number of all images. */
static void batch_in(const Net *s, const Plan *p, const REAL *images, const REAL *labels, long first, long n) {
    const long height = s->height + 2 * s->padding, width = s->width + 2 * s->padding, pixels = s->height * s->width;
    memset(p->images, 0, n * height * width * s->groups * s->channels * sizeof(REAL));
    for (long g = 0; g < s->groups; g++)
        for (long b = 0; b < n; b++) {
            const REAL *image = images + (g * s->images + first + b) * s->channels * pixels;
            for (long k = 0; k < s->channels; k++)
                for (long y = 0; y < s->height; y++)
                    for (long x = 0; x < s->width; x++) {
                        long at = ((b * height + y + s->padding) * width + x + s->padding) * s->groups + g;
                        p->images[at * s->channels + k] = image[k * pixels + y * s->width + x];
                    }
            const REAL *label = labels + (g * s->images + first + b) * s->classes;
            for (long k = 0; k < s->classes; k++) p->labels[(g * n + b) * s->classes + k] = -label[k] / s->images;
        }
}

static Few few_of(const Net *s, const Layer *l, long n) {
    long height = s->height + 2 * s->padding, width = s->width + 2 * s->padding;
    return (Few){n, height, width, s->groups, l->channels, l->out, s->padding, s->threads};
}
static Small small_of(const Net *s, const Layer *l, long n) {
    return (Small){n, l->height, l->width, s->groups, l->channels, l->out, 0, s->threads};
}
/* From the gradient of its maps to that of its images: the other way round. */
static Small mirrored_of(const Net *s, const Layer *l, long n) {
    return (Small){n, l->height, l->width, s->groups, l->out, l->channels, 1, s->threads};
}
static Size size_of(const Net *s, const Layer *l, long n) {
    return (Size){n, l->height, l->width, s->groups * l->out, s->groups, s->threads};
}
static Head head_of(const Net *s, const Plan *p, long n) {
    const long apart = s->parameters;
    return (Head){n, p->pixels, s->groups, p->features, s->classes, apart, apart, apart, s->threads};
}

/* A block's gradients of scale and shift to where they belong; that of the bias is nothing. */
static void norm_out(const Net *s, const Plan *p, const Layer *l, REAL *to) {
    for (long g = 0; g < s->groups; g++) {
        REAL *rest = to + g * s->parameters + l->offset + 9 * l->channels * l->out;
        memset(rest, 0, l->out * sizeof(REAL));
        memcpy(rest + l->out, p->to_scale + g * l->out, l->out * sizeof(REAL));
        memcpy(rest + 2 * l->out, p->to_shift + g * l->out, l->out * sizeof(REAL));
    }
}
static void add(long count, const REAL *from, REAL *to) {
    for (long i = 0; i < count; i++) to[i] += from[i];
}
static long maps_of(const Net *s, const Layer *l, long n) { return n * l->height * l->width * s->groups * l->out; }
static long images_of(const Net *s, const Layer *l, long n) { return n * l->height * l->width * s->groups * l->channels; }

/* Losses [G] and their gradients [G, D]. */
void net_gradient(Net s, const REAL *theta, const REAL *images, const REAL *labels, REAL *losses, REAL *to_theta,
                  REAL *space) {
    Space whole = {space, 0};
    Plan p = planned(&s, 1, &whole);
    parameters_in(&s, &p, 0, theta);
    for (long first = 0; first < s.images; first += s.at_once) {
        const long n = s.images - first < s.at_once ? s.images - first : s.at_once, last = s.blocks - 1;
        REAL *to = first ? p.theta : to_theta, *x = p.images;
        batch_in(&s, &p, images, labels, first, n);
        for (long i = 0; i < s.blocks; x = p.layers[i++].pooled) {
            Layer *l = p.layers + i;
            if (i) small_product(small_of(&s, l, n), x, l->weights[0], l->maps);
            else few_forward(few_of(&s, l, n), x, l->weights[0], l->maps);
            forward(size_of(&s, l, n), l->maps, l->scale[0], l->shift[0], s.eps, l->pooled, l->rstds);
        }
        const REAL *weights = theta + p.classifier, *biases = weights + s.classes * p.features * p.pixels;
        REAL *to_weights = to + p.classifier, *to_biases = to_weights + (biases - weights);
        head(head_of(&s, &p, n), p.layers[last].pooled, weights, biases, p.labels, first ? p.losses : losses, p.g,
             to_weights, to_biases);
        for (long i = last; i >= 0; i--) {
            Layer *l = p.layers + i;
            backward(size_of(&s, l, n), p.g, l->maps, l->rstds, l->scale[0], l->shift[0], p.to_scale, p.to_shift);
            norm_out(&s, &p, l, to);
            if (i) {
                small_weight_apart(small_of(&s, l, n), l[-1].pooled, l->maps, to + l->offset, s.parameters);
                small_product(mirrored_of(&s, l, n), l->maps, l->mirrored[0], p.g);
            } else {
                few_weight_apart(few_of(&s, l, n), p.images, l->maps, to + l->offset, s.parameters);
            }
        }
        if (first) {
            add(s.groups * s.parameters, p.theta, to_theta);
            add(s.groups, p.losses, losses);
        }
    }
}

/* Products of second derivatives with a direction [G, D]: to theta [G, D], images [G, B, C, h, w] and labels [G, B, K]. */
void net_products(Net s, const REAL *theta, const REAL *direction, const REAL *images, const REAL *labels,
                  REAL *to_theta, REAL *to_images, REAL *to_labels, REAL *space) {
    Space whole = {space, 0};
    Plan p = planned(&s, 2, &whole);
    parameters_in(&s, &p, 0, theta);
    parameters_in(&s, &p, 1, direction);
    for (long first = 0; first < s.images; first += s.at_once) {
        const long n = s.images - first < s.at_once ? s.images - first : s.at_once, last = s.blocks - 1;
        REAL *to = first ? p.theta : to_theta;
        batch_in(&s, &p, images, labels, first, n);
        for (long i = 0; i < s.blocks; i++) {
            Layer *l = p.layers + i;
            const long half = maps_of(&s, l, n);
            if (i) {
                const REAL *x = l[-1].pooled;
                small_product(small_of(&s, l, 2 * n), x, l->weights[0], l->maps);
                small_product(small_of(&s, l, n), x + images_of(&s, l, n), l->weights[1], p.more);
                add(half, p.more, l->maps);
            } else { /* images do not move */
                few_forward(few_of(&s, l, n), p.images, l->weights[1], l->maps);
                few_forward(few_of(&s, l, n), p.images, l->weights[0], l->maps + half);
            }
            forward_along(size_of(&s, l, n), l->maps, l->scale[1], l->scale[0], l->shift[1], l->shift[0], s.eps,
                          l->pooled, l->rstds, l->slopes);
        }
        const long size = s.classes * p.features * p.pixels;
        const REAL *weights = theta + p.classifier, *dots = direction + p.classifier;
        REAL *to_weights = to + p.classifier;
        head_along(head_of(&s, &p, n), p.layers[last].pooled, dots, weights, dots + size, weights + size, p.labels, p.g,
                   to_weights, to_weights + size, p.logs);
        for (long i = last; i >= 0; i--) {
            Layer *l = p.layers + i;
            const long half = maps_of(&s, l, n);
            backward_along(size_of(&s, l, n), p.g, l->maps, l->rstds, l->slopes, l->scale[1], l->scale[0], l->shift[0],
                           p.to_scale, p.to_shift);
            norm_out(&s, &p, l, to);
            if (i) {
                small_weight_apart(small_of(&s, l, 2 * n), l[-1].pooled, l->maps, to + l->offset, s.parameters);
                small_product(mirrored_of(&s, l, 2 * n), l->maps, l->mirrored[0], p.g);
                small_product(mirrored_of(&s, l, n), l->maps, l->mirrored[1], p.more);
                add(images_of(&s, l, n), p.more, p.g + images_of(&s, l, n));
            } else {
                const long pixels = s.height * s.width, count = n * pixels * s.groups * s.channels;
                REAL *moving = l->maps + half, *at_images = p.to_images, *more = at_images + count;
                few_weight_apart(few_of(&s, l, n), p.images, moving, to + l->offset, s.parameters);
                few_image(few_of(&s, l, n), moving, l->mirrored[0], at_images);
                few_image(few_of(&s, l, n), l->maps, l->mirrored[1], more);
                add(count, more, at_images);
                for (long g = 0; g < s.groups; g++)
                    for (long b = 0; b < n; b++)
                        for (long k = 0; k < s.channels; k++)
                            for (long y = 0; y < pixels; y++)
                                to_images[((g * s.images + first + b) * s.channels + k) * pixels + y] =
                                    at_images[((b * pixels + y) * s.groups + g) * s.channels + k];
            }
        }
        for (long g = 0; g < s.groups; g++)
            for (long k = 0; k < n * s.classes; k++)
                to_labels[(g * s.images + first) * s.classes + k] = -p.logs[g * n * s.classes + k] / s.images;
        if (first) add(s.groups * s.parameters, p.theta, to_theta);
    }
}
