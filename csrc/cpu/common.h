// What the CPU kernels share: number types, instruction sets, and work split the same way
// whatever the number of threads, so that sums repeat bit for bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../tensor.h"

#define PGVAE_INLINE inline __attribute__((always_inline))
// Compiles a function for three instruction sets (AVX-512, AVX2 and the least of x86-64) and picks
// one when the library is loaded.
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
#define PGVAE_CLONES \
  __attribute__((noinline, target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PGVAE_CLONES __attribute__((noinline))
#endif

namespace pgvae {

// Calls F::run<Bytes>(arguments), compiled for the widest vectors that this machine has. For
// kernels that say themselves what is in a vector; loops are the compiler's, by PGVAE_CLONES.
template <class F, class... Args>
struct Widest {
  __attribute__((noinline)) static void usual(Args... args) { F::template run<16>(args...); }
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
  __attribute__((noinline, target("arch=x86-64-v3"))) static void avx2(Args... args) {
    F::template run<32>(args...);
  }
  __attribute__((noinline, target("arch=x86-64-v4"))) static void avx512(Args... args) {
    F::template run<64>(args...);
  }
  static auto* here() {
    return __builtin_cpu_supports("x86-64-v4")   ? avx512
           : __builtin_cpu_supports("x86-64-v3") ? avx2
                                                 : usual;
  }
#else
  static auto* here() { return usual; }
#endif
};

template <class F, class... Args>
void widest(Args... args) {
  static auto* const run = Widest<F, Args...>::here();
  run(args...);
}

struct BFloat16 {
  uint16_t bits;
};

template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

PGVAE_INLINE float load(float value) { return value; }
PGVAE_INLINE double load(double value) { return value; }
PGVAE_INLINE float load(BFloat16 value) {
  const uint32_t bits = uint32_t(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

PGVAE_INLINE void store(float& to, float value) { to = value; }
PGVAE_INLINE void store(double& to, double value) { to = value; }
PGVAE_INLINE void store(BFloat16& to, float value) {  // to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.bits = value == value ? rounded : 0x7fc0;
}

template <class A>
PGVAE_INLINE A leaky_relu(A value, A slope) {
  return value > 0 ? value : value * slope;
}

// Calls f(T{}) with the number type of a tensor.
template <class F>
void dispatch(ScalarType type, const F& f) {
  if (type == ScalarType::Float) return f(float{});
  if (type == ScalarType::BFloat16) return f(BFloat16{});
  STD_TORCH_CHECK(type == ScalarType::Double, "float32, bfloat16 or float64 is needed");
  f(double{});
}

constexpr int64_t kElementsPerTask = 131072;  // below, a second thread costs more than it brings

// Runs f(begin, end) over [0, count) on torch's threads; one item is `elements` numbers.
template <class F>
void parallel(int64_t count, int64_t elements, const F& f) {
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, elements));
  torch::stable::parallel_for(0, count, grain, f);
}

// Sums over parts of the work into `sums` [channels]: f(begin, end, partial) adds its items to
// partial[channels]. The parts, and the order they are added in, depend on the sizes alone.
template <class A, class F>
void parallel_sum(int64_t count, int64_t elements, int64_t channels, A* sums, const F& f) {
  constexpr int64_t kMostParts = 128;
  const int64_t per_part = std::max<int64_t>(
      {1, (count + kMostParts - 1) / kMostParts,
       kElementsPerTask / 2 / std::max<int64_t>(1, elements)});
  const int64_t parts = (count + per_part - 1) / per_part;
  std::vector<A> partial(parts * channels, A(0));
  torch::stable::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part)
      f(part * per_part, std::min(count, (part + 1) * per_part), &partial[part * channels]);
  });
  std::fill(sums, sums + channels, A(0));
  for (int64_t part = 0; part < parts; ++part)
    for (int64_t c = 0; c < channels; ++c) sums[c] += partial[part * channels + c];
}

}  // namespace pgvae
