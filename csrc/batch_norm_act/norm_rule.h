// Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) of one value, with its (leaky) ReLU.
#pragma once
#include "math/activation.h"

namespace infogan_fast {

template <class A>
struct Normalised {
  A centred;  // the value in standard deviations from the mean
  A scaled;   // before the activation
};

template <class A>
INFOGAN_FAST_HD Normalised<A> normalised(A x, A mean, A rstd, A weight, A bias) {
  const A centred = (x - mean) * rstd;
  return Normalised<A>{centred, fused(centred, weight, bias)};
}

// The gradient with respect to x: `gradient` is with respect to `scaled`, `mean_gradient` and `mean_product` are the
// part's means of it and of its product with `centred`, `factor` is weight * rstd.
template <class A>
INFOGAN_FAST_HD A norm_gradient(A gradient, A centred, A mean_gradient, A mean_product, A factor) {
  return factor * (gradient - fused(centred, mean_product, mean_gradient));
}

}  // namespace infogan_fast
