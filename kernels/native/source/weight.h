/* A packed weight: one block of memory, read by the kernels and written once by `pack`.
 *
 *     header | scale[N'] | bias[N'] | scaled_ksum[N'] | integers, panel by panel
 *
 * N' is N rounded up to whole panels of 64 outputs; spare outputs are zero. A panel holds, for every four inputs, four
 * bytes of each of its 64 outputs: what one multiply-add instruction takes is consecutive, and a panel is read from front
 * to back. Spare inputs of the last four are zero.
 *
 * INT4 (`bits` = 4): a byte holds two four-bit integers plus 8, of inputs k..k+3 (low half) and k+4..k+7 (high half); after
 * the integers come the multipliers, 64 bytes for every group of 64 inputs, panel by panel.
 */
#ifndef LIFELONG_WEIGHT_H
#define LIFELONG_WEIGHT_H

#include <stdint.h>

#define PANEL 64
#define GROUP 64
#define QUAD 4

typedef struct {
    int32_t bits, num_out, num_in;
    int32_t num_panels;
    int32_t num_quads; /* inputs / 4, rounded up */
    int32_t spare[11];
} Weight;

static inline const float *weight_scale(const Weight *w) { return (const float *)(w + 1); }
static inline const float *weight_bias(const Weight *w) { return weight_scale(w) + w->num_panels * PANEL; }
static inline const float *weight_ksum(const Weight *w) { return weight_bias(w) + w->num_panels * PANEL; }
static inline const uint8_t *weight_integers(const Weight *w)
{
    return (const uint8_t *)(weight_ksum(w) + w->num_panels * PANEL);
}

static inline int64_t panel_bytes(const Weight *w) { return (int64_t)w->num_quads * PANEL * QUAD * w->bits / 8; }

static inline const uint8_t *weight_panel(const Weight *w, int panel)
{
    return weight_integers(w) + panel * panel_bytes(w);
}

static inline const uint8_t *weight_multipliers(const Weight *w, int panel)
{
    int64_t groups = w->num_in / GROUP;
    return weight_integers(w) + w->num_panels * panel_bytes(w) + panel * groups * PANEL;
}

#endif
