/* Frames -> power spectra -> mel energies, eight frames at a time.
 *
 * The frames of a clip are spread over the lanes of a vector: lane l holds frame t + l, so every
 * step is the same arithmetic on eight frames and no frame sees another's rounding. A real frame of
 * n samples is packed into n/2 complex values (even samples, odd samples), transformed by a Stockham
 * autosort FFT of radices 4, 2, 3 and 5 (Van Loan, Computational Frameworks for the Fast Fourier
 * Transform, 1992, section 1.7), and untangled into the n/2 + 1 bins of the real transform.
 *
 * Plain C with the vector extension of GCC and Clang; no Python in it. One thread, no global state.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Compiled twice: for float32 as it stands, for float64 with -DREAL=double. */
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

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
/* One build, three instruction sets: the loader picks the one that the processor has. */
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#pragma GCC diagnostic ignored "-Wpsabi" /* every function with a vector argument is inlined */
#else
#define CLONES
#endif

/* Everything that stays the same from clip to clip; made by pipeline/features/kernel.py. */
typedef struct {
    int32_t n_fft, win_length;
    int32_t n_radices, radices[16]; /* their product is n_fft / 2 */
    const real *window;       /* (win_length) */
    const real *twiddles;      /* per pass (m, radix - 1) pairs of cos, -sin */
    const real *untangle;      /* (n_fft / 4 + 1) pairs of cos, sin of 2 pi k / n_fft */
    real preemphasis;         /* x[i] - preemphasis * x[i - 1] within a frame; 0 is none */
    int32_t remove_dc;         /* subtract each frame's mean */
    real magnitude_floor;     /* below 0: power; else sqrt(power + magnitude_floor) */
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
            u[i + j + 2] = __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* (8, n) rows -> n vectors of 8 lanes. */
INLINE void load_lanes(const float *const *rows, int n, v8 *out) {
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int l = 0; l < 8; l++) {
            f8 row;
            memcpy(&row, rows[l] + i, sizeof(f8));
            out[i + l] = __builtin_convertvector(row, v8);
        }
        transpose8(out + i);
    }
    for (; i < n; i++)
        out[i] = (v8){rows[0][i], rows[1][i], rows[2][i], rows[3][i],
                      rows[4][i], rows[5][i], rows[6][i], rows[7][i]};
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

/* y = x * w, for a twiddle w that is (1, 0) where `turn` is 0. */
INLINE void put(v8 *yr, v8 *yi, v8 xr, v8 xi, const real *w, int turn) {
    if (turn) {
        v8 c = splat(w[0]), s = splat(w[1]);
        *yr = xr * c - xi * s;
        *yi = xr * s + xi * c;
    } else {
        *yr = xr;
        *yi = xi;
    }
}

/* One butterfly: x[q + s*(p + m*k)] for k < radix, to y[q + s*(radix*p + j)]. */
INLINE void butterfly(int radix, const v8 *xr, const v8 *xi, int64_t step, v8 *yr, v8 *yi, int64_t s,
                      const real *w, int turn) {
    if (radix == 2) {
        yr[0] = xr[0] + xr[step];
        yi[0] = xi[0] + xi[step];
        put(yr + s, yi + s, xr[0] - xr[step], xi[0] - xi[step], w, turn);
    } else if (radix == 3) {
        const v8 half = splat(0.5), h = splat(0.866025403784438646763);
        v8 tr = xr[step] + xr[2 * step], ti = xi[step] + xi[2 * step];
        v8 dr = (xr[step] - xr[2 * step]) * h, di = (xi[step] - xi[2 * step]) * h;
        v8 ar = xr[0] - tr * half, ai = xi[0] - ti * half;
        yr[0] = xr[0] + tr;
        yi[0] = xi[0] + ti;
        put(yr + s, yi + s, ar + di, ai - dr, w, turn);
        put(yr + 2 * s, yi + 2 * s, ar - di, ai + dr, w + 2, turn);
    } else if (radix == 4) {
        v8 ar = xr[0] + xr[2 * step], ai = xi[0] + xi[2 * step];
        v8 br = xr[0] - xr[2 * step], bi = xi[0] - xi[2 * step];
        v8 cr = xr[step] + xr[3 * step], ci = xi[step] + xi[3 * step];
        v8 dr = xr[step] - xr[3 * step], di = xi[step] - xi[3 * step];
        yr[0] = ar + cr;
        yi[0] = ai + ci;
        put(yr + s, yi + s, br + di, bi - dr, w, turn);
        put(yr + 2 * s, yi + 2 * s, ar - cr, ai - ci, w + 2, turn);
        put(yr + 3 * s, yi + 3 * s, br - di, bi + dr, w + 4, turn);
    } else {
        const v8 c1 = splat(0.309016994374947424102), c2 = splat(-0.809016994374947424102);
        const v8 s1 = splat(0.951056516295153572116), s2 = splat(0.587785252292473129169);
        v8 t1r = xr[step] + xr[4 * step], t1i = xi[step] + xi[4 * step];
        v8 t2r = xr[2 * step] + xr[3 * step], t2i = xi[2 * step] + xi[3 * step];
        v8 t3r = xr[step] - xr[4 * step], t3i = xi[step] - xi[4 * step];
        v8 t4r = xr[2 * step] - xr[3 * step], t4i = xi[2 * step] - xi[3 * step];
        v8 ur = xr[0] + c1 * t1r + c2 * t2r, ui = xi[0] + c1 * t1i + c2 * t2i;
        v8 vr = xr[0] + c2 * t1r + c1 * t2r, vi = xi[0] + c2 * t1i + c1 * t2i;
        v8 pr = s1 * t3r + s2 * t4r, pi = s1 * t3i + s2 * t4i;
        v8 qr = s2 * t3r - s1 * t4r, qi = s2 * t3i - s1 * t4i;
        yr[0] = xr[0] + t1r + t2r;
        yi[0] = xi[0] + t1i + t2i;
        put(yr + s, yi + s, ur + pi, ui - pr, w, turn);
        put(yr + 2 * s, yi + 2 * s, vr + qi, vi - qr, w + 2, turn);
        put(yr + 3 * s, yi + 3 * s, vr - qi, vi + qr, w + 4, turn);
        put(yr + 4 * s, yi + 4 * s, ur - pi, ui + pr, w + 6, turn);
    }
}

INLINE void pass(int radix, const v8 *xr, const v8 *xi, v8 *yr, v8 *yi, int m, int s,
                 const real *w) {
    const int64_t step = (int64_t)m * s;
    for (int q = 0; q < s; q++)
        butterfly(radix, xr + q, xi + q, step, yr + q, yi + q, s, w, 0);
    for (int p = 1; p < m; p++) {
        const int64_t from = (int64_t)p * s, to = (int64_t)p * s * radix;
        const real *turn = w + (int64_t)p * (radix - 1) * 2;
        for (int q = 0; q < s; q++)
            butterfly(radix, xr + from + q, xi + from + q, step, yr + to + q, yi + to + q, s, turn, 1);
    }
}

/* In: n/2 complex values in (xr, xi). Out: where the transform lies, (xr, xi) or (yr, yi). */
INLINE int transform(const Analysis *a, v8 *xr, v8 *xi, v8 *yr, v8 *yi) {
    int m = a->n_fft / 2, s = 1, swapped = 0;
    const real *w = a->twiddles;
    for (int i = 0; i < a->n_radices; i++) {
        const int radix = a->radices[i];
        m /= radix;
        switch (radix) {
        case 2: pass(2, xr, xi, yr, yi, m, s, w); break;
        case 3: pass(3, xr, xi, yr, yi, m, s, w); break;
        case 4: pass(4, xr, xi, yr, yi, m, s, w); break;
        default: pass(5, xr, xi, yr, yi, m, s, w); break;
        }
        w += (int64_t)m * (radix - 1) * 2;
        s *= radix;
        v8 *t;
        t = xr, xr = yr, yr = t;
        t = xi, xi = yi, yi = t;
        swapped = !swapped;
    }
    return swapped;
}

/* |X[k]|^2 of the real transform, k = 0 .. h, from the half-length transform Z (h = n/2 values). */
INLINE void untangle(const Analysis *a, const v8 *zr, const v8 *zi, v8 *power) {
    const int h = a->n_fft / 2;
    const v8 half = splat(0.5);
    v8 first = zr[0] + zi[0], last = zr[0] - zi[0];
    power[0] = first * first;
    power[h] = last * last;
    for (int k = 1; k <= h / 2; k++) {
        const int j = h - k;
        const v8 c = splat(a->untangle[2 * k]), s = splat(a->untangle[2 * k + 1]);
        v8 er = (zr[k] + zr[j]) * half, ei = (zi[k] - zi[j]) * half;  /* even samples */
        v8 or = (zi[k] + zi[j]) * half, oi = (zr[j] - zr[k]) * half;  /* odd samples */
        v8 tr = or * c + oi * s, ti = oi * c - or * s;                /* turned by exp(-i) */
        v8 pr = er + tr, pi = ei + ti, mr = er - tr, mi = ei - ti;
        power[k] = pr * pr + pi * pi;
        power[j] = mr * mr + mi * mi;
    }
}

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

/* Which source this was compiled from: a stale library is told by it, and not used. */
uint32_t abi(void) { return ABI; }

/* frames: (n_frames) addresses of their first samples; out: (n_frames, bins or mels);
 * energies: (n_frames) sums of squares before pre-emphasis and window, or NULL;
 * work: 4 * n_fft + 16 + width vectors of 8, aligned to the size of one. */
CLONES void analyse(const Analysis *a, const float *samples, const int64_t *starts,
                    int64_t n_frames, real *out, real *energies, real *work) {
    const int n = a->n_fft, h = n / 2, bins = h + 1;
    const int width = a->n_mels ? a->n_mels : bins;
    v8 *frame = (v8 *)work, *xr = frame + n, *xi = xr + h, *yr = xi + h, *yi = yr + h;
    v8 *power = yi + h, *mel = power + bins + 7;
    for (int64_t t = 0; t < n_frames; t += LANES) {
        const int count = n_frames - t < LANES ? (int)(n_frames - t) : LANES;
        const float *rows[LANES];
        for (int l = 0; l < LANES; l++) rows[l] = samples + starts[t + (l < count ? l : 0)];
        load_lanes(rows, a->win_length, frame);
        v8 energy;
        condition(a, frame, energies ? &energy : 0);
        if (energies)
            for (int l = 0; l < count; l++) energies[t + l] = energy[l];
        for (int i = a->win_length; i < n; i++) frame[i] = splat(0);
        for (int i = 0; i < h; i++) {
            xr[i] = frame[2 * i];
            xi[i] = frame[2 * i + 1];
        }
        if (transform(a, xr, xi, yr, yi))
            untangle(a, yr, yi, power);
        else
            untangle(a, xr, xi, power);
        if (a->magnitude_floor >= 0)
            for (int k = 0; k < bins; k++)
                for (int l = 0; l < LANES; l++)
                    power[k][l] = (real)sqrt(power[k][l] + a->magnitude_floor);
        v8 *result = power;
        if (a->n_mels) {
            const real *w = a->mel_weights;
            for (int b = 0; b < a->n_mels; b++) {
                v8 sum = splat(0);
                const v8 *from = power + a->mel_first[b];
                for (int k = 0; k < a->mel_count[b]; k++) sum += from[k] * splat(*w++);
                mel[b] = sum;
            }
            result = mel;
        }
        store_lanes(result, width, out + t * width, count);
    }
}
