/* Frames -> power spectra -> mel energies, eight or sixteen frames at a time.
 *
 * The frames of a clip are spread over the lanes of a vector: lane l holds frame t + l, so every
 * step is the same arithmetic on all of them and no frame sees another's rounding. A real frame of
 * n samples is packed into n/2 complex values (even samples, odd samples), transformed in place by
 * decimation in frequency with radices 8, 5, 4, 3 and 2 (Van Loan, Computational Frameworks for the
 * Fast Fourier Transform, 1992, section 1.9), and untangled into the n/2 + 1 bins of the real
 * transform. Time goes into moving the frames through the caches, so there are as few passes over
 * them as can be.
 *
 * Plain C with the vector extension of GCC and Clang; no Python in it. One thread, no global state.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Compiled for float32 as it stands and for float64 with -DREAL=double, each for several
 * instruction sets. GCC's target_clones would make one library of them, but splits the vectors of
 * inlined functions as the oldest set needs them: half the speed. */
#ifndef REAL
#define REAL float
#endif
#ifndef ABI
#define ABI 0
#endif
#ifndef LANES
#define LANES 8
#endif
typedef REAL real;
typedef real vec __attribute__((vector_size(sizeof(real) * LANES)));
typedef float f4 __attribute__((vector_size(sizeof(float) * 4)));
typedef float f8 __attribute__((vector_size(sizeof(float) * 8)));
#define INLINE static inline __attribute__((always_inline))

#ifdef __GNUC__
#pragma GCC diagnostic ignored "-Wpsabi" /* every function with a vector argument is inlined */
#endif

/* Everything that stays the same from clip to clip; made by pipeline/features/kernel.py. */
typedef struct {
    int32_t n_fft, win_length;
    int32_t n_radices, radices[16]; /* their product is n_fft / 2 */
    const real *window;        /* (win_length), halved */
    const real *twiddles;      /* per step (m, radix - 1) pairs of cos, -sin */
    const int32_t *order;      /* (n_fft / 2) where the transform leaves each bin */
    const real *untangle;      /* (n_fft / 4 + 1) pairs of cos, sin of 2 pi k / n_fft */
    real preemphasis;          /* x[i] - preemphasis * x[i - 1] within a frame; 0 is none */
    int32_t remove_dc;         /* subtract each frame's mean */
    real magnitude_floor;      /* below 0: power; else sqrt(power + magnitude_floor) */
    int32_t n_mels;            /* 0: all bins */
    const int32_t *mel_first;  /* (n_mels) first bin of each filter */
    const int32_t *mel_count;  /* (n_mels) number of its bins */
    const real *mel_weights;   /* the weights of all filters, one after the other */
} Analysis;

INLINE vec splat(real x) { return x - (vec){0}; }

#if LANES == 16
#define EACH_FOUR(a, b, c, d) \
    a, b, c, d, (a) + 4, (b) + 4, (c) + 4, (d) + 4, \
    (a) + 8, (b) + 8, (c) + 8, (d) + 8, (a) + 12, (b) + 12, (c) + 12, (d) + 12
#else
#define EACH_FOUR(a, b, c, d) a, b, c, d, (a) + 4, (b) + 4, (c) + 4, (d) + 4
#endif

/* Of four vectors every block of four lanes is transposed where it stands: no value crosses from
 * one quarter of a wide register to another, which would take the processor longer. */
INLINE void transpose_blocks(vec *r) {
    const vec a = __builtin_shufflevector(r[0], r[1], EACH_FOUR(0, LANES, 1, LANES + 1));
    const vec b = __builtin_shufflevector(r[0], r[1], EACH_FOUR(2, LANES + 2, 3, LANES + 3));
    const vec c = __builtin_shufflevector(r[2], r[3], EACH_FOUR(0, LANES, 1, LANES + 1));
    const vec d = __builtin_shufflevector(r[2], r[3], EACH_FOUR(2, LANES + 2, 3, LANES + 3));
    r[0] = __builtin_shufflevector(a, c, EACH_FOUR(0, 1, LANES, LANES + 1));
    r[1] = __builtin_shufflevector(a, c, EACH_FOUR(2, 3, LANES + 2, LANES + 3));
    r[2] = __builtin_shufflevector(b, d, EACH_FOUR(0, 1, LANES, LANES + 1));
    r[3] = __builtin_shufflevector(b, d, EACH_FOUR(2, 3, LANES + 2, LANES + 3));
}

/* Four samples from i on of the rows 0, 4, 8 ..., one block after the other. */
INLINE vec blocks(const float *const *rows, int i) {
    f4 x[LANES / 4];
    for (int q = 0; q < LANES / 4; q++) memcpy(&x[q], rows[4 * q] + i, sizeof(f4));
    const f8 low = __builtin_shufflevector(x[0], x[1], 0, 1, 2, 3, 4, 5, 6, 7);
#if LANES == 16
    const f8 high = __builtin_shufflevector(x[2], x[3], 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_convertvector(
        __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
        vec);
#else
    return __builtin_convertvector(low, vec);
#endif
}

/* (LANES, n) rows, times a window if there is one -> n vectors. */
INLINE void load_lanes(const float *const *rows, int n, const real *window, vec *out) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        vec r[4];
        for (int j = 0; j < 4; j++) r[j] = blocks(rows + j, i);
        transpose_blocks(r);
        for (int j = 0; j < 4; j++) out[i + j] = window ? r[j] * splat(window[i + j]) : r[j];
    }
    for (; i < n; i++) {
        vec x;
        for (int l = 0; l < LANES; l++) x[l] = rows[l][i];
        out[i] = window ? x * splat(window[i]) : x;
    }
}

/* n vectors -> the first `count` of (LANES, n) rows; the vectors are used up. */
INLINE void store_lanes(vec *in, int n, real *out, int count) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        transpose_blocks(in + i);
        for (int l = 0; l < count; l++)
            memcpy(out + (int64_t)l * n + i, (real *)(in + i + l % 4) + l / 4 * 4,
                   4 * sizeof(real));
    }
    for (; i < n; i++)
        for (int l = 0; l < count; l++) out[(int64_t)l * n + i] = in[i][l];
}

/* A complex value in every lane, both parts side by side: in a pass a cache line is moved once. */
typedef struct {
    vec re, im;
} cvec;

INLINE cvec add(cvec a, cvec b) { return (cvec){a.re + b.re, a.im + b.im}; }
INLINE cvec sub(cvec a, cvec b) { return (cvec){a.re - b.re, a.im - b.im}; }
INLINE cvec scale(cvec a, real f) { return (cvec){a.re * splat(f), a.im * splat(f)}; }
INLINE cvec by_minus_i(cvec a) { return (cvec){a.im, -a.re}; }

INLINE cvec turned(cvec x, const real *w) {
    vec c = splat(w[0]), s = splat(w[1]);
    return (cvec){x.re * c - x.im * s, x.re * s + x.im * c};
}

/* The transform of four points. */
INLINE void four(const cvec *x, cvec *y) {
    cvec a = add(x[0], x[2]), b = sub(x[0], x[2]), c = add(x[1], x[3]);
    cvec d = by_minus_i(sub(x[1], x[3]));
    y[0] = add(a, c);
    y[1] = add(b, d);
    y[2] = sub(a, c);
    y[3] = sub(b, d);
}

/* The transform of `radix` points. */
INLINE void points(int radix, const cvec *x, cvec *y) {
    if (radix == 2) {
        y[0] = add(x[0], x[1]);
        y[1] = sub(x[0], x[1]);
    } else if (radix == 3) {
        cvec t = add(x[1], x[2]), d = by_minus_i(scale(sub(x[1], x[2]), 0.866025403784438646763));
        cvec a = sub(x[0], scale(t, 0.5));
        y[0] = add(x[0], t);
        y[1] = add(a, d);
        y[2] = sub(a, d);
    } else if (radix == 4) {
        four(x, y);
    } else if (radix == 5) {
        const real c1 = 0.309016994374947424102, c2 = -0.809016994374947424102;
        const real s1 = 0.951056516295153572116, s2 = 0.587785252292473129169;
        cvec t1 = add(x[1], x[4]), t2 = add(x[2], x[3]), t3 = sub(x[1], x[4]), t4 = sub(x[2], x[3]);
        cvec u = add(x[0], add(scale(t1, c1), scale(t2, c2)));
        cvec v = add(x[0], add(scale(t1, c2), scale(t2, c1)));
        cvec p = by_minus_i(add(scale(t3, s1), scale(t4, s2)));
        cvec q = by_minus_i(sub(scale(t3, s2), scale(t4, s1)));
        y[0] = add(x[0], add(t1, t2));
        y[1] = add(u, p);
        y[2] = add(v, q);
        y[3] = sub(v, q);
        y[4] = sub(u, p);
    } else { /* 8: the even outputs from the sums, the odd ones from the turned differences */
        const real r = 0.707106781186547524401;
        cvec sums[4], differences[4], even[4], odd[4];
        for (int k = 0; k < 4; k++) {
            sums[k] = add(x[k], x[k + 4]);
            differences[k] = sub(x[k], x[k + 4]);
        }
        cvec t = differences[1];
        differences[1] = scale(add(t, by_minus_i(t)), r);
        differences[2] = by_minus_i(differences[2]);
        t = by_minus_i(differences[3]);
        differences[3] = scale(sub(t, differences[3]), r);
        four(sums, even);
        four(differences, odd);
        for (int k = 0; k < 4; k++) {
            y[2 * k] = even[k];
            y[2 * k + 1] = odd[k];
        }
    }
}

/* A step of n = radix * m points, in place: x[p + m*k] -> x[p + m*j], turned by exp(-2 pi i p j / n).
 * What stands from m*j on is then to be transformed by itself: to the bins j + radix*k. */
INLINE void step(int radix, cvec *x, int m, const real *w) {
    for (int p = 0; p < m; p++, w += 2 * (radix - 1)) {
        cvec in[8], out[8];
        for (int k = 0; k < radix; k++) in[k] = x[p + m * k];
        points(radix, in, out);
        x[p] = out[0];
        for (int j = 1; j < radix; j++)
            x[p + m * j] = m > 1 ? turned(out[j], w + 2 * (j - 1)) : out[j];
    }
}

INLINE void steps(int radix, cvec *x, int n, int block, const real *w) {
    for (cvec *end = x + n; x < end; x += block) step(radix, x, block / radix, w);
}

INLINE void any_steps(int radix, cvec *x, int n, int block, const real *w) {
    switch (radix) {
    case 2: steps(2, x, n, block, w); break;
    case 3: steps(3, x, n, block, w); break;
    case 4: steps(4, x, n, block, w); break;
    case 5: steps(5, x, n, block, w); break;
    default: steps(8, x, n, block, w); break;
    }
}

/* n/2 complex values in x -> their transform in place, bin k at x[order[k]]. The first step goes
 * over all of x, which may exceed the nearest cache; the others over one part of it at a time. */
INLINE void transform(const Analysis *a, cvec *x) {
    const int n = a->n_fft / 2, part = n / a->radices[0];
    any_steps(a->radices[0], x, n, n, a->twiddles);
    const real *const inner = a->twiddles + 2 * (n - part);
    for (int first = 0; first < n; first += part) {
        const real *w = inner;
        for (int i = 1, block = part; i < a->n_radices; i++) {
            any_steps(a->radices[i], x + first, part, block, w);
            w += 2 * (block - block / a->radices[i]);
            block /= a->radices[i];
        }
    }
}

/* |X[k]|^2 of the real transform, k = 0 .. h, from the half-length transform z of h = n/2 values,
 * all of them halved by the window. */
INLINE void untangle(const Analysis *a, const cvec *z, vec *power) {
    const int h = a->n_fft / 2;
    vec first = 2 * (z[0].re + z[0].im), last = 2 * (z[0].re - z[0].im);
    power[0] = first * first;
    power[h] = last * last;
    for (int k = 1; k <= h / 2; k++) {
        const cvec x = z[a->order[k]], y = z[a->order[h - k]];
        const vec c = splat(a->untangle[2 * k]), s = splat(a->untangle[2 * k + 1]);
        vec er = x.re + y.re, ei = x.im - y.im;         /* even samples */
        vec or = x.im + y.im, oi = y.re - x.re;         /* odd samples */
        vec tr = or * c + oi * s, ti = oi * c - or * s; /* turned by exp(-2 pi i k / n) */
        vec pr = er + tr, pi = ei + ti, mr = er - tr, mi = ei - ti;
        power[k] = pr * pr + pi * pi;
        power[h - k] = mr * mr + mi * mi;
    }
}

/* What some front ends do to a frame before its transform: offset, energy, pre-emphasis, window. */
INLINE void condition(const Analysis *a, vec *x, vec *energy) {
    const int n = a->win_length;
    if (a->remove_dc) {
        vec sum = splat(0);
        for (int i = 0; i < n; i++) sum += x[i];
        sum *= splat((real)1 / n);
        for (int i = 0; i < n; i++) x[i] -= sum;
    }
    if (energy) {
        vec sum = splat(0);
        for (int i = 0; i < n; i++) sum += x[i] * x[i];
        *energy = sum;
    }
    if (a->preemphasis != 0) {
        const vec c = splat(a->preemphasis);
        for (int i = n - 1; i > 0; i--) x[i] -= c * x[i - 1];
        x[0] -= c * x[0];
    }
    for (int i = 0; i < n; i++) x[i] *= splat(a->window[i]);
}

/* Power, or magnitude, of the bins -> energies of the mel filters. */
INLINE void filtered(const Analysis *a, const vec *power, vec *mel) {
    const real *w = a->mel_weights;
    for (int b = 0; b < a->n_mels; b++) {
        const vec *from = power + a->mel_first[b];
        const int count = a->mel_count[b];
        vec sums[4] = {splat(0), splat(0), splat(0), splat(0)}; /* none waits for another */
        int k = 0;
        for (; k + 4 <= count; k += 4, w += 4)
            for (int i = 0; i < 4; i++) sums[i] += from[k + i] * splat(w[i]);
        for (; k < count; k++) sums[0] += from[k] * splat(*w++);
        mel[b] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
}

/* Which source this was compiled from: a stale library is told by it, and not used. */
uint32_t abi(void) { return ABI; }

/* The newest level of x86-64 (4, 3) whose vectors this processor has; else 0. */
int32_t level(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq")) return 3;
    return __builtin_cpu_supports("avx512vl") ? 4 : 3;
#else
    return 0;
#endif
}

/* frames: (n_frames) addresses of their first samples; out: (n_frames, bins or mels);
 * energies: (n_frames) sums of squares before pre-emphasis and window, or NULL;
 * work: 2 * n_fft + 16 + width vectors, aligned to the size of one. */
void analyse(const Analysis *a, const float *samples, const int64_t *starts, int64_t n_frames,
             real *out, real *energies, real *work) {
    const int n = a->n_fft, bins = n / 2 + 1;
    const int width = a->n_mels ? a->n_mels : bins;
    const int plain = !a->remove_dc && !energies && a->preemphasis == 0;
    vec *frame = (vec *)work, *power = frame + n, *mel = power + bins + 7;
    for (int64_t t = 0; t < n_frames; t += LANES) {
        const int count = n_frames - t < LANES ? (int)(n_frames - t) : LANES;
        const float *rows[LANES];
        for (int l = 0; l < LANES; l++) rows[l] = samples + starts[t + (l < count ? l : 0)];
        load_lanes(rows, a->win_length, plain ? a->window : 0, frame);
        if (!plain) {
            vec energy;
            condition(a, frame, energies ? &energy : 0);
            if (energies)
                for (int l = 0; l < count; l++) energies[t + l] = energy[l];
        }
        for (int i = a->win_length; i < n; i++) frame[i] = splat(0);
        cvec *packed = (cvec *)frame; /* samples 2 i and 2 i + 1 are the parts of value i */
        transform(a, packed);
        untangle(a, packed, power);
        if (a->magnitude_floor >= 0)
            for (int k = 0; k < bins; k++)
                for (int l = 0; l < LANES; l++)
                    power[k][l] = (real)sqrt(power[k][l] + a->magnitude_floor);
        vec *result = power;
        if (a->n_mels) {
            filtered(a, power, mel);
            result = mel;
        }
        store_lanes(result, width, out + t * width, count);
    }
}
