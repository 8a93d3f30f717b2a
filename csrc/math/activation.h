// Activations of one value, and their way back.
#pragma once
#include "math/elementary.h"

namespace infogan_fast {

template <class A>
INFOGAN_FAST_HD A leaky_relu(A x, A slope) {
  return x > A(0) ? x : x * slope;
}

// The gradient with respect to x, which may be given by leaky_relu(x): its sign is the same, or it is 0.
template <class A>
INFOGAN_FAST_HD A through_leaky_relu(A gradient, A x, A slope) {
  return x > A(0) ? gradient : gradient * slope;
}

template <class A>
INFOGAN_FAST_HD A sigmoid(A x) {
  const A e = exponential(-magnitude(x));
  const A large = A(1) / (A(1) + e);
  return x > A(0) ? large : e * large;
}

// The gradient with respect to x, given y = sigmoid(x).
template <class A>
INFOGAN_FAST_HD A through_sigmoid(A gradient, A y) {
  return gradient * (y * (A(1) - y));
}

}  // namespace infogan_fast
