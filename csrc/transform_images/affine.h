// The random change of an image: mirrored, sheared, turned, scaled and shifted about its middle, in this order, then
// bent, and read bilinearly. The map is computed in double, by arithmetic that gives the same bits everywhere.
#pragma once
#include "math/latent_row.h"

namespace infogan_fast {

constexpr int kMaxChannels = 3;
constexpr int kKnots = 5;  // along each side of the grid whose displacements bend an image
constexpr int kBends = 2 * kKnots * kKnots;

struct TransformRanges {
  double rotation, scale, shear, shift, colour, bend;  // the angle in radians
  bool flip;
  double largest_slant;  // in radians
};

// From a pixel of the copy to its place in the image: factors of the column, of the row, and of 1.
struct Affine {
  double column[3], row[3];
  double gains[kMaxChannels];
  double slant;  // by which it turns an upright stroke anticlockwise, as a share of the largest
};

// For |x| <= pi. Taylor polynomials of a quarter of the angle, doubled twice.
INFOGAN_FAST_HD void sine_cosine(double x, double& sine, double& cosine) {
  const double q = 0.25 * x, z = q * q;
  double s = -1.0 / 1307674368000.0;
  s = fused(s, z, 1.0 / 6227020800.0);
  s = fused(s, z, -1.0 / 39916800.0);
  s = fused(s, z, 1.0 / 362880.0);
  s = fused(s, z, -1.0 / 5040.0);
  s = fused(s, z, 1.0 / 120.0);
  s = fused(s, z, -1.0 / 6.0);
  s = fused(s * z, q, q);
  double v = 1.0 / 20922789888000.0;  // towards 1 - cosine, which loses nothing near 0
  v = fused(v, z, -1.0 / 87178291200.0);
  v = fused(v, z, 1.0 / 479001600.0);
  v = fused(v, z, -1.0 / 3628800.0);
  v = fused(v, z, 1.0 / 40320.0);
  v = fused(v, z, -1.0 / 720.0);
  v = fused(v, z, 1.0 / 24.0);
  v = fused(-v, z, 0.5) * z;
  for (int doubled = 0; doubled < 2; ++doubled) {
    const double twice = 2.0 * s;
    const double next = twice * s;
    s = twice * (1.0 - v);
    v = next;
  }
  sine = s;
  cosine = 1.0 - v;
}

// A first guess, good to 0.004, and what is left of the angle by its tangent.
INFOGAN_FAST_HD double arc_tangent(double x) {
  const double a = magnitude(x);
  const double t = a > 1.0 ? 1.0 / a : a;
  const double guess = t * fused(0.273, 1.0 - t, 0.78539816339744831);
  double sine, cosine;
  sine_cosine(guess, sine, cosine);
  const double e = fused(t, cosine, -sine) / fused(t, sine, cosine), z = e * e;
  double p = -1.0 / 7.0;
  p = fused(p, z, 0.2);
  p = fused(p, z, -1.0 / 3.0);
  const double angle = guess + fused(p * z, e, e);
  const double whole = a > 1.0 ? 1.5707963267948966 - angle : angle;
  return x < 0.0 ? -whole : whole;
}

// The angle in degrees.
INFOGAN_FAST_HD TransformRanges make_ranges(double rotation, double scale, double shear, double shift, double colour,
                                            double bend, bool flip) {
  const double radians = rotation * (3.14159265358979323846 / 180);
  return TransformRanges{radians, scale, shear, shift, colour, bend, flip, radians + arc_tangent(shear)};
}

// In the order in which they are drawn. All of them always are, so that changing one range leaves the other draws as
// they are.
struct TransformDraws {
  double angle, scale, shear, right, down, mirror, gains[kMaxChannels];  // U(-1, 1)
};

INFOGAN_FAST_HD TransformDraws draw_transform(Stream stream, uint64_t sample) {
  const Words first = latent_words(stream, sample, Purpose::continuous, 0),
              second = latent_words(stream, sample, Purpose::continuous, 1),
              third = latent_words(stream, sample, Purpose::continuous, 2);
  return TransformDraws{
      uniform_signed(first.w0),
      uniform_signed(first.w1),
      uniform_signed(first.w2),
      uniform_signed(first.w3),
      uniform_signed(second.w0),
      uniform_signed(second.w1),
      {uniform_signed(second.w2), uniform_signed(second.w3), uniform_signed(third.w0)},
  };
}

// How far a knot moves, in pixels: along the row first, knot by knot and row by row, then along the column.
template <class A>
INFOGAN_FAST_HD A draw_bend(const TransformRanges& ranges, Stream stream, uint64_t sample, int index, int64_t size) {
  const uint32_t code = static_cast<uint32_t>(index) + 9;  // after the draws of the map
  const Words words = latent_words(stream, sample, Purpose::continuous, code / 4);
  return static_cast<A>(ranges.bend * static_cast<double>(size) * uniform_signed(word_of(words, code % 4)));
}

// Between the knots, the way is cubic (Catmull and Rom 1974): the shares of the four knots around a pixel, where those
// past the ends are the ones at the ends.
template <class A>
struct Knots {
  int32_t first;  // of four; from -1 to kKnots - 3
  A share[4];
};

template <class A>
INFOGAN_FAST_HD Knots<A> knots_of(int32_t pixel, int32_t size) {
  const A along = size > 1 ? static_cast<A>(pixel) * (A(kKnots - 1) / static_cast<A>(size - 1)) : A(0);
  const int32_t whole = static_cast<int32_t>(along), interval = whole < kKnots - 2 ? whole : kKnots - 2;
  const A t = along - static_cast<A>(interval), s = A(1) - t;
  return Knots<A>{interval - 1,
                  {A(-0.5) * t * s * s, fused(t * t, fused(A(1.5), t, A(-2.5)), A(1)),
                   fused(s * s, fused(A(1.5), s, A(-2.5)), A(1)), A(-0.5) * s * t * t}};
}

INFOGAN_FAST_HD int32_t knot_within(int32_t index) { return index < 0 ? 0 : index < kKnots ? index : kKnots - 1; }

// Of the four around a pixel, `knots` apart in memory.
template <class A>
INFOGAN_FAST_HD A between_knots(const Knots<A>& k, const A* knots, int32_t apart) {
  A sum = A(0);
  for (int i = 0; i < 4; ++i) sum = fused(k.share[i], knots[knot_within(k.first + i) * apart], sum);
  return sum;
}

INFOGAN_FAST_HD Affine affine_of(const TransformRanges& ranges, const TransformDraws& draws, int64_t size) {
  const double turn = ranges.rotation * draws.angle, lean = ranges.shear * draws.shear;
  double sine, cosine;
  sine_cosine(turn, sine, cosine);
  const double shrink = 1.0 / fused(ranges.scale, draws.scale, 1.0);
  sine *= shrink;
  cosine *= shrink;
  const double side = static_cast<double>(size), middle = 0.5 * (side - 1.0), most = side * ranges.shift;
  const double x = fused(most, draws.right, middle), y = fused(most, draws.down, middle);
  const double sign = ranges.flip && draws.mirror > 0.0 ? -1.0 : 1.0;
  Affine a;
  a.column[0] = sign * fused(-lean, sine, cosine);
  a.column[1] = sign * fused(-lean, cosine, -sine);
  a.column[2] = fused(-a.column[0], x, fused(-a.column[1], y, middle));
  a.row[0] = sine;
  a.row[1] = cosine;
  a.row[2] = fused(-a.row[0], x, fused(-a.row[1], y, middle));
  for (int c = 0; c < kMaxChannels; ++c) a.gains[c] = fused(ranges.colour, draws.gains[c], 1.0);
  a.slant = ranges.largest_slant > 0.0 ? (turn + arc_tangent(lean)) / ranges.largest_slant : 0.0;
  return a;
}

// A place along an axis, between pixel `at` and the next one. Places outside of the image are on its border.
template <class A>
struct Place {
  int32_t at;
  A share;  // of the next pixel
};

template <class A>
INFOGAN_FAST_HD Place<A> place_of(A along, A last) {
  const A inside = along > A(0) ? (along < last ? along : last) : A(0);  // NaN is 0
  const int32_t at = static_cast<int32_t>(inside);
  return Place<A>{at, inside - static_cast<A>(at)};
}

template <class A>
INFOGAN_FAST_HD A between(A first, A next, A share) {
  return fused(share, next - first, first);
}

template <class A>
INFOGAN_FAST_HD A amplified(A value, A gain) {
  const A product = value * gain;
  return product > A(1) ? A(1) : product;
}

}  // namespace infogan_fast
