/* The sizes of Winograd's schemes, for kernels and Python alike; the formulas are in transforms.pxi. Along one axis:
 *
 *   step    outputs of a tile
 *   side    samples of an input tile, and points
 *   stride  of the convolution
 *   own     points that have weights of their own; all points from there on share one matrix
 *
 * A table of constants in C, so that a scheme given as a constant makes its sizes constants. */
#ifndef FASTCONV_WINOGRAD_H
#define FASTCONV_WINOGRAD_H

enum { FC_F4, FC_F4_BY_TWO, FC_F2, FC_SCHEMES };

typedef struct { int step, side, stride, own; } fc_scheme;

static const fc_scheme FC_WINOGRAD[FC_SCHEMES] = {
    [FC_F4] = {4, 6, 1, 5},         /* F(4x4, 3x3) */
    [FC_F4_BY_TWO] = {4, 9, 2, 5},  /* the same outputs with stride 2, by phase */
    [FC_F2] = {2, 4, 1, 3},         /* F(2x2, 3x3) */
};

/* G, which transforms three taps: a row for each point, `own` of them and the one that the others share. */
static const double FC_WINOGRAD_G[FC_SCHEMES][6][3] = {
    [FC_F4] = {{1. / 4, 0, 0}, {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6},
               {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}},
    [FC_F4_BY_TWO] = {{1. / 2, 0, 0}, {-1. / 2, 0, -1. / 2}, {-1. / 6, 0, 1. / 6},
                      {1. / 6, 0, 1. / 3}, {0, 0, 1}, {0, 1, 0}},
    [FC_F2] = {{1, 0, 0}, {1. / 2, 1. / 2, 1. / 2}, {1. / 2, -1. / 2, 1. / 2}, {0, 0, 1}},
};

#endif
