// What the ops of both devices need of torch, through its stable ABI: shapes, layouts, checks.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace pgvae {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// An activation [N, C, H, W], dense in one of the two memory formats. Where both hold (one
// channel, one pixel) it is called channels_last, whose kernels are the faster ones.
struct Shape {
  int64_t n, c, h, w;
  bool channels_last;

  int64_t pixels() const { return h * w; }
  int64_t numel() const { return n * c * h * w; }
};

inline bool is_channels_last(const Tensor& x) {
  const int64_t order[4] = {1, 3, 2, 0};  // from the fastest dimension to the slowest
  int64_t stride = 1;
  for (int64_t dim : order) {
    if (x.size(dim) != 1 && x.stride(dim) != stride) return false;
    stride *= x.size(dim);
  }
  return true;
}

// `x`, or a copy in the format. (torch's own `contiguous` also returns x itself, but dearly.)
inline Tensor in_format(const Tensor& x, bool channels_last = false) {
  if (channels_last ? is_channels_last(x) : x.is_contiguous()) return x;
  return torch::stable::contiguous(
      x, channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

// `x` itself where it is dense in a format, else a contiguous copy.
inline Tensor dense(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4, "an activation has 4 dimensions [N, C, H, W]: got ", x.dim());
  return is_channels_last(x) ? x : in_format(x);
}

inline Shape shape_of(const Tensor& x) {
  return {x.size(0), x.size(1), x.size(2), x.size(3), is_channels_last(x)};
}

inline void check_device(const Tensor& x, const Tensor& like) {
  STD_TORCH_CHECK(x.device() == like.device(), "all tensors of an op are on one device");
}

inline void check_shape(const Tensor& gradient, const Tensor& like) {
  check_device(gradient, like);
  STD_TORCH_CHECK(gradient.dim() == 4, "a gradient has the shape of its output");
  for (int64_t dim = 0; dim < 4; ++dim)
    STD_TORCH_CHECK(gradient.size(dim) == like.size(dim), "a gradient has the shape of its output");
}

// `x` in the memory format of `like`, which is dense.
inline Tensor laid_out_as(const Tensor& x, const Tensor& like) {
  STD_TORCH_CHECK(x.scalar_type() == like.scalar_type(), "a gradient has the dtype of its output");
  check_shape(x, like);
  return in_format(x, is_channels_last(like));
}

// A new tensor of another size in the memory format of `like`.
inline Tensor empty_as(const Tensor& like, Shape s, std::optional<ScalarType> dtype = {}) {
  const int64_t sizes[4] = {s.n, s.c, s.h, s.w};
  return torch::stable::empty(
      {sizes, 4}, dtype.value_or(like.scalar_type()), std::nullopt, like.device(), std::nullopt,
      s.channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
}

inline Tensor empty_1d(const Tensor& like, int64_t size, ScalarType dtype) {
  return torch::stable::new_empty(like, {&size, 1}, dtype);
}

template <class T>
const T* data(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <class T>
T* mutable_data(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

// A gradient's numbers, or null where it is absent.
template <class T>
const T* optional_data(const std::optional<Tensor>& g) {
  return g ? data<T>(*g) : nullptr;
}

// float64 for float64, else float32: what sums and biases are kept in.
inline ScalarType wide(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_bias(const Tensor& bias, const Tensor& x) {
  check_device(bias, x);
  STD_TORCH_CHECK(
      bias.dim() == 1 && bias.size(0) == x.size(1) && bias.is_contiguous() &&
          bias.scalar_type() == wide(x),
      "bias is [C] in float32, or float64 where x is: C is ", x.size(1));
}

inline void check_rstd(const Tensor& rstd, const Tensor& y) {
  check_device(rstd, y);
  STD_TORCH_CHECK(rstd.numel() == y.size(0) * y.size(2) * y.size(3) && rstd.is_contiguous() &&
                      rstd.scalar_type() == wide(y),
                  "rstd is [N, 1, H, W], as the forward made it");
}

inline Shape halved(const Shape& s) {
  STD_TORCH_CHECK(s.h % 2 == 0 && s.w % 2 == 0, "height and width are even: got ", s.h, "x", s.w);
  return {s.n, s.c, s.h / 2, s.w / 2, s.channels_last};
}

// The gradient of a pooled output, laid out as its `signs`.
inline Tensor pooled_gradient(const Tensor& grad, const Tensor& signs, int64_t height,
                              int64_t width) {
  STD_TORCH_CHECK(signs.scalar_type() == ScalarType::Byte, "signs are bytes");
  STD_TORCH_CHECK(height / 2 == signs.size(2) && width / 2 == signs.size(3),
                  "height and width are those of the input");
  check_shape(grad, signs);
  return in_format(grad, is_channels_last(signs));
}

inline void check_alpha(const Tensor& alpha, const Tensor& x) {
  check_device(alpha, x);
  STD_TORCH_CHECK(alpha.numel() == 1 && alpha.scalar_type() == wide(x),
                  "alpha is one number in float32, or float64 where the images are");
}

// The images of half the size, laid out as the large ones.
inline Tensor blend_partner(const Tensor& old_images, const Tensor& images) {
  check_device(old_images, images);
  STD_TORCH_CHECK(old_images.dim() == 4 && old_images.size(0) == images.size(0) &&
                      old_images.size(1) == images.size(1) &&
                      2 * old_images.size(2) == images.size(2) &&
                      2 * old_images.size(3) == images.size(3) &&
                      old_images.scalar_type() == images.scalar_type(),
                  "old is [N, C, H, W] and new [N, C, 2H, 2W], of one dtype");
  return in_format(old_images, is_channels_last(images));
}

// Latents [N, d]: rows one after another, or (latent_rows) at any distance.
inline Tensor latent_rows(const Tensor& z) {
  STD_TORCH_CHECK(z.dim() == 2, "latents are [N, d]: got ", z.dim(), " dimensions");
  STD_TORCH_CHECK(z.scalar_type() == wide(z), "latents are float32 or float64");
  return z.size(1) == 1 || z.stride(1) == 1 ? z : in_format(z);
}

inline Tensor latents(const Tensor& z) { return in_format(latent_rows(z)); }

inline void check_same_latents(const Tensor& a, const Tensor& b) {
  check_device(a, b);
  STD_TORCH_CHECK(a.size(0) == b.size(0) && a.size(1) == b.size(1) &&
                      a.scalar_type() == b.scalar_type(),
                  "mu, logvar and noise have one shape and dtype");
}

// The gradient of one number a row.
inline Tensor row_gradient(const Tensor& g, const Tensor& rows) {
  check_device(g, rows);
  STD_TORCH_CHECK(g.dim() == 1 && g.size(0) == rows.size(0) &&
                      g.scalar_type() == rows.scalar_type(),
                  "the gradient of kl is [N]");
  return in_format(g);
}

inline void check_moments(const Tensor& mean, const Tensor& m2, const Tensor& z) {
  for (const Tensor* x : {&mean, &m2}) {
    check_device(*x, z);
    STD_TORCH_CHECK(x->dim() == 1 && x->size(0) == z.size(1) && x->is_contiguous() &&
                        x->scalar_type() == z.scalar_type(),
                    "mean and m2 are [d], as the forward made them");
  }
}

// A gradient of kl (one number), mean or m2 ([d]), or none.
inline std::optional<Tensor> moment_gradient(const std::optional<Tensor>& g, const Tensor& z) {
  if (!g) return std::nullopt;
  check_device(*g, z);
  STD_TORCH_CHECK((g->dim() == 0 || (g->dim() == 1 && g->size(0) == z.size(1))) &&
                      g->scalar_type() == z.scalar_type(),
                  "the gradient of kl is one number, those of mean and m2 are [d]");
  return in_format(*g);
}

}  // namespace pgvae
