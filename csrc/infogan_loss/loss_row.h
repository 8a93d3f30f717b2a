// The terms of the InfoGAN objective for one sample, each with its derivative. T is float (fp32, fp16 and bf16 inputs)
// or double. Chen et al. 2016, equation 6: min_{G,Q} max_D V(D, G) - lambda L_I(G, Q), L_I = E[log Q(c|x)] + H(c).
#pragma once
#include "math/log_variance.h"

namespace infogan_fast {

constexpr double kHalfLog2Pi = 0.91893853320467274178;

// softplus(x) and softplus(-x) with sigmoid(x) and sigmoid(-x): every cross-entropy of a binary logit is made of these.
template <class T>
struct Binary {
  T softplus, softplus_negated, sigmoid, sigmoid_negated;
};

template <class T>
INFOGAN_FAST_HD Binary<T> binary(T x) {
  const T e = exponential(-magnitude(x));
  const T tail = log1p_unit(e);
  const T large = T(1) / (T(1) + e), small = e * large;
  const bool positive = x > T(0);
  return Binary<T>{(positive ? x : T(0)) + tail, (positive ? T(0) : -x) + tail, positive ? large : small,
                   positive ? small : large};
}

// -log N(u; mean, e^log_variance), its derivatives, and the log-variance clamped to +-kLogVarianceLimit, past which it
// gets no gradient.
template <class T>
struct Gaussian {
  T nll, d_mean, d_log_variance, squared_error, log_variance;
};

template <class T>
INFOGAN_FAST_HD Gaussian<T> gaussian(T u, T mean, T log_variance) {
  const T limit = T(kLogVarianceLimit);
  const T low = log_variance < -limit ? -limit : log_variance;
  const T clamped = low > limit ? limit : low;
  const T error = mean - u;
  const T scaled = error * exponential(-clamped);
  const T squared = error * scaled;
  const T derivative = T(0.5) * (T(1) - squared);
  return Gaussian<T>{T(kHalfLog2Pi) + T(0.5) * (clamped + squared), scaled,
                     magnitude(log_variance) > limit ? T(0) : derivative, error * error, clamped};
}

// A weight of 0 gives no gradient, even where the derivative is infinite.
template <class T>
INFOGAN_FAST_HD T weighted(T weight, T derivative) {
  return weight == T(0) ? T(0) : weight * derivative;
}

// -log Bernoulli(u; sigmoid(logit)) for u in {0, 1}.
template <class T>
struct Bernoulli {
  T nll, d_logit, squared_error;
};

template <class T>
INFOGAN_FAST_HD Bernoulli<T> bernoulli(T u, T logit) {
  const Binary<T> b = binary(logit);
  const bool one = u > T(0.5);
  const T error = one ? -b.sigmoid_negated : b.sigmoid;
  return Bernoulli<T>{one ? b.softplus_negated : b.softplus, error, error * error};
}

}  // namespace infogan_fast
