/* Frames -> power spectra -> mel energies, eight frames at a time.
 *
 * The frames of a clip are spread over the lanes of a vector: lane l holds frame t + l, so every
 * step is the same arithmetic on eight frames and no frame sees another's rounding. A real frame of
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
#define LANES 8
typedef REAL real;
typedef real v8 __attribute__((vector_size(sizeof(real) * LANES)));
typedef float f8 __attribute__((vector_size(sizeof(float) * LANES)));
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

INLINE v8 splat(real x) { return (v8){x, x, x, x, x, x, x, x}; }

INLINE void transpose8(v8 *r) {
    v8 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            u[i + j] = __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            u[i + j + 2] =
                __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* (8, n) rows, times a window if there is one -> n vectors of 8 lanes. */
INLINE void load_lanes(const float *const *rows, int n, const real *window, v8 *out) {
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        v8 r[8];
        for (int l = 0; l < 8; l++) {
            f8 row;
            memcpy(&row, rows[l] + i, sizeof(f8));
            r[l] = __builtin_convertvector(row, v8);
            if (window) {
                v8 w;
                memcpy(&w, window + i, sizeof(v8));
                r[l] *= w;
            }
        }
        transpose8(r);
        memcpy(out + i, r, sizeof(r));
    }
    for (; i < n; i++) {
        v8 x = {rows[0][i], rows[1][i], rows[2][i], rows[3][i],
                rows[4][i], rows[5][i], rows[6][i], rows[7][i]};
        out[i] = window ? x * splat(window[i]) : x;
    }
}

/* n vectors of 8 lanes -> the first `count` of (8, n) rows; the vectors are used up. */
INLINE void store_lanes(v8 *in, int n, real *out, int count) {
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        transpose8(in + i);
        for (int l = 0; l < count; l++) memcpy(out + (int64_t)l * n + i, &in[i + l], sizeof(v8));
    }
    for (; i < n; i++)
        for (int l = 0; l < count; l++) out[(int64_t)l * n + i] = in[i][l];
}

/* Eight complex values: a cache line of floats, so that every line is moved once in a pass. */
typedef struct {
    v8 re, im;
} c8;

INLINE c8 add(c8 a, c8 b) { return (c8){a.re + b.re, a.im + b.im}; }
INLINE c8 sub(c8 a, c8 b) { return (c8){a.re - b.re, a.im - b.im}; }
INLINE c8 scale(c8 a, real f) { return (c8){a.re * splat(f), a.im * splat(f)}; }
INLINE c8 by_minus_i(c8 a) { return (c8){a.im, -a.re}; }

INLINE c8 turned(c8 x, const real *w) {
    v8 c = splat(w[0]), s = splat(w[1]);
    return (c8){x.re * c - x.im * s, x.re * s + x.im * c};
}

/* The transform of four points. */
INLINE void four(const c8 *x, c8 *y) {
    c8 a = add(x[0], x[2]), b = sub(x[0], x[2]), c = add(x[1], x[3]);
    c8 d = by_minus_i(sub(x[1], x[3]));
    y[0] = add(a, c);
    y[1] = add(b, d);
    y[2] = sub(a, c);
    y[3] = sub(b, d);
}

/* The transform of `radix` points. */
INLINE void points(int radix, const c8 *x, c8 *y) {
    if (radix == 2) {
        y[0] = add(x[0], x[1]);
        y[1] = sub(x[0], x[1]);
    } else if (radix == 3) {
        c8 t = add(x[1], x[2]), d = by_minus_i(scale(sub(x[1], x[2]), 0.866025403784438646763));
        c8 a = sub(x[0], scale(t, 0.5));
        y[0] = add(x[0], t);
        y[1] = add(a, d);
        y[2] = sub(a, d);
    } else if (radix == 4) {
        four(x, y);
    } else if (radix == 5) {
        const real c1 = 0.309016994374947424102, c2 = -0.809016994374947424102;
        const real s1 = 0.951056516295153572116, s2 = 0.587785252292473129169;
        c8 t1 = add(x[1], x[4]), t2 = add(x[2], x[3]), t3 = sub(x[1], x[4]), t4 = sub(x[2], x[3]);
        c8 u = add(x[0], add(scale(t1, c1), scale(t2, c2)));
        c8 v = add(x[0], add(scale(t1, c2), scale(t2, c1)));
        c8 p = by_minus_i(add(scale(t3, s1), scale(t4, s2)));
        c8 q = by_minus_i(sub(scale(t3, s2), scale(t4, s1)));
        y[0] = add(x[0], add(t1, t2));
        y[1] = add(u, p);
        y[2] = add(v, q);
        y[3] = sub(v, q);
        y[4] = sub(u, p);
    } else { /* 8: the even outputs from the sums, the odd ones from the turned differences */
        const real r = 0.707106781186547524401;
        c8 sums[4], differences[4], even[4], odd[4];
        for (int k = 0; k < 4; k++) {
            sums[k] = add(x[k], x[k + 4]);
            differences[k] = sub(x[k], x[k + 4]);
        }
        c8 t = differences[1];
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
INLINE void step(int radix, c8 *x, int m, const real *w) {
    for (int p = 0; p < m; p++, w += 2 * (radix - 1)) {
        c8 in[8], out[8];
        for (int k = 0; k < radix; k++) in[k] = x[p + m * k];
        points(radix, in, out);
        x[p] = out[0];
        for (int j = 1; j < radix; j++)
            x[p + m * j] = m > 1 ? turned(out[j], w + 2 * (j - 1)) : out[j];
    }
}

INLINE void steps(int radix, c8 *x, int n, int block, const real *w) {
    for (c8 *end = x + n; x < end; x += block) step(radix, x, block / radix, w);
}

INLINE void any_steps(int radix, c8 *x, int n, int block, const real *w) {
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
INLINE void transform(const Analysis *a, c8 *x) {
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
INLINE void untangle(const Analysis *a, const c8 *z, v8 *power) {
    const int h = a->n_fft / 2;
    v8 first = 2 * (z[0].re + z[0].im), last = 2 * (z[0].re - z[0].im);
    power[0] = first * first;
    power[h] = last * last;
    for (int k = 1; k <= h / 2; k++) {
        const c8 x = z[a->order[k]], y = z[a->order[h - k]];
        const v8 c = splat(a->untangle[2 * k]), s = splat(a->untangle[2 * k + 1]);
        v8 er = x.re + y.re, ei = x.im - y.im;         /* even samples */
        v8 or = x.im + y.im, oi = y.re - x.re;         /* odd samples */
        v8 tr = or * c + oi * s, ti = oi * c - or * s; /* turned by exp(-2 pi i k / n) */
        v8 pr = er + tr, pi = ei + ti, mr = er - tr, mi = ei - ti;
        power[k] = pr * pr + pi * pi;
        power[h - k] = mr * mr + mi * mi;
    }
}

/* What some front ends do to a frame before its transform: offset, energy, pre-emphasis, window. */
INLINE void condition(const Analysis *a, v8 *x, v8 *energy) {
    const int n = a->win_length;
    if (a->remove_dc) {
        v8 sum = splat(0);
        for (int i = 0; i < n; i++) sum += x[i];
        sum *= splat((real)1 / n);
        for (int i = 0; i < n; i++) x[i] -= sum;
    }
    if (energy) {
        v8 sum = splat(0);
        for (int i = 0; i < n; i++) sum += x[i] * x[i];
        *energy = sum;
    }
    if (a->preemphasis != 0) {
        const v8 c = splat(a->preemphasis);
        for (int i = n - 1; i > 0; i--) x[i] -= c * x[i - 1];
        x[0] -= c * x[0];
    }
    for (int i = 0; i < n; i++) x[i] *= splat(a->window[i]);
}

/* Power, or magnitude, of the bins -> energies of the mel filters. */
INLINE void filtered(const Analysis *a, const v8 *power, v8 *mel) {
    const real *w = a->mel_weights;
    for (int b = 0; b < a->n_mels; b++) {
        const v8 *from = power + a->mel_first[b];
        const int count = a->mel_count[b];
        v8 sums[4] = {splat(0), splat(0), splat(0), splat(0)}; /* none waits for another */
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
 * work: 2 * n_fft + 16 + width vectors of 8, aligned to the size of one. */
void analyse(const Analysis *a, const float *samples, const int64_t *starts, int64_t n_frames,
             real *out, real *energies, real *work) {
    const int n = a->n_fft, bins = n / 2 + 1;
    const int width = a->n_mels ? a->n_mels : bins;
    const int plain = !a->remove_dc && !energies && a->preemphasis == 0;
    v8 *frame = (v8 *)work, *power = frame + n, *mel = power + bins + 7;
    for (int64_t t = 0; t < n_frames; t += LANES) {
        const int count = n_frames - t < LANES ? (int)(n_frames - t) : LANES;
        const float *rows[LANES];
        for (int l = 0; l < LANES; l++) rows[l] = samples + starts[t + (l < count ? l : 0)];
        load_lanes(rows, a->win_length, plain ? a->window : 0, frame);
        if (!plain) {
            v8 energy;
            condition(a, frame, energies ? &energy : 0);
            if (energies)
                for (int l = 0; l < count; l++) energies[t + l] = energy[l];
        }
        for (int i = a->win_length; i < n; i++) frame[i] = splat(0);
        c8 *packed = (c8 *)frame; /* samples 2 i and 2 i + 1 are the parts of value i */
        transform(a, packed);
        untangle(a, packed, power);
        if (a->magnitude_floor >= 0)
            for (int k = 0; k < bins; k++)
                for (int l = 0; l < LANES; l++)
                    power[k][l] = (real)sqrt(power[k][l] + a->magnitude_floor);
        v8 *result = power;
        if (a->n_mels) {
            filtered(a, power, mel);
            result = mel;
        }
        store_lanes(result, width, out + t * width, count);
    }
}
