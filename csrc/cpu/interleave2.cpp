// interleave2: out[2i + a, 2j + b] = phase[2a + b][i, j], the last step of up2_conv3x3: it puts
// its four small convolutions together. deinterleave2 is its inverse, and its gradient.
#include "common.h"

namespace pgvae {
namespace {

// In channels_last a pixel is `size` bytes; where contiguous it is one number, and images are
// n * c. Both kernels only move bytes.
template <int64_t Size>  // bytes of a pixel, or 0 where `size` says it
PGVAE_INLINE void move_row(char* even, char* odd, char* row, int64_t pixels, int64_t size,
                           bool split) {
  const int64_t bytes = Size ? Size : size;
  for (int64_t j = 0; j < pixels; ++j) {
    char *first = row + 2 * j * bytes, *second = first + bytes;
    if (split) {
      std::memcpy(even + j * bytes, first, bytes);
      std::memcpy(odd + j * bytes, second, bytes);
    } else {
      std::memcpy(first, even + j * bytes, bytes);
      std::memcpy(second, odd + j * bytes, bytes);
    }
  }
}

// `whole` is [2h, 2w] and `phases` four of [h, w], for `images` images.
void move(char* const phases[4], char* whole, int64_t images, int64_t h, int64_t w, int64_t size,
          bool split) {
  parallel(images * 2 * h, 2 * w * size / 4, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t a = row % 2, start = row / 2 * w * size;
      char *even = phases[2 * a] + start, *odd = phases[2 * a + 1] + start;
      char* to = whole + row * 2 * w * size;
      if (size == 2) move_row<2>(even, odd, to, w, size, split);
      else if (size == 4) move_row<4>(even, odd, to, w, size, split);
      else if (size == 8) move_row<8>(even, odd, to, w, size, split);
      else move_row<0>(even, odd, to, w, size, split);
    }
  });
}

// Images and bytes of a pixel, as `move` counts them.
std::tuple<int64_t, int64_t> counts(const Shape& s, ScalarType type) {
  const bool known = type == ScalarType::Double || type == ScalarType::Float ||
                     type == ScalarType::BFloat16 || type == ScalarType::Half;
  STD_TORCH_CHECK(known, "activations are floating point numbers");
  const int64_t bytes = type == ScalarType::Double ? 8 : type == ScalarType::Float ? 4 : 2;
  return s.channels_last ? std::tuple(s.n, s.c * bytes) : std::tuple(s.n * s.c, bytes);
}

Tensor interleave2(const Tensor& p0, const Tensor& p1, const Tensor& p2, const Tensor& p3) {
  const Tensor first = dense(p0);
  const Tensor phases[4] = {first, laid_out_as(p1, first), laid_out_as(p2, first),
                            laid_out_as(p3, first)};
  const Shape s = shape_of(first);
  Tensor out = empty_as(first, {s.n, s.c, 2 * s.h, 2 * s.w, s.channels_last});
  char* from[4];
  for (int k = 0; k < 4; ++k) from[k] = const_cast<char*>(data<char>(phases[k]));
  const auto [images, size] = counts(s, first.scalar_type());
  move(from, mutable_data<char>(out), images, s.h, s.w, size, false);
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> deinterleave2(const Tensor& input) {
  const Tensor x = dense(input);
  const Shape s = shape_of(x), half = halved(s);
  Tensor phases[4] = {empty_as(x, half), empty_as(x, half), empty_as(x, half), empty_as(x, half)};
  char* to[4];
  for (int k = 0; k < 4; ++k) to[k] = mutable_data<char>(phases[k]);
  const auto [images, size] = counts(s, x.scalar_type());
  move(to, const_cast<char*>(data<char>(x)), images, half.h, half.w, size, true);
  return {phases[0], phases[1], phases[2], phases[3]};
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("interleave2", TORCH_BOX(&interleave2));
  m.impl("deinterleave2", TORCH_BOX(&deinterleave2));
}

}  // namespace
}  // namespace pgvae
