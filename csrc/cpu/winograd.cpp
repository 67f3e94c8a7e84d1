// The transforms of Winograd's convolutions: between images and tiles of coefficients
// [phases * K * K, tiles, channels], whose products over channels with a weight's filters
// [phases * K * K, I, O] are matrix products.
//
//   convolution 3x3:          F(4x4, 3x3): 36 coefficients for 16 outputs.
//   upsampling, then 3x3:     each of the four phases of the output is a 2x2 convolution of the
//                             small image, F(4x4, 2x2): 4 * 25 coefficients for 64 outputs.
#include <memory>

#include "winograd_filters.h"

namespace pgvae {
namespace {

struct Sizes {
  int phases;
  int64_t coefficients;
  explicit Sizes(bool up2)
      : phases(up2 ? Winograd<true>::kPhases : Winograd<false>::kPhases),
        coefficients(up2 ? Winograd<true>::kCoefficients : Winograd<false>::kCoefficients) {}
};

using GridOf = Grid(int64_t, int64_t, int64_t, int64_t, bool, int);

template <const auto& M, int K, int Side>
struct Gather {
  template <int Bytes, class T>
  static PGVAE_INLINE void run(const T* image, T* to, Grid g, int64_t begin, int64_t end) {
    gather<T, M, K, Side, Bytes>(image, to + begin * g.channels, g.tiles() * g.channels, g, begin,
                                 end);
  }
};

// Work: blocks of channels of images, so that no two threads add to one pixel.
constexpr int64_t kBlock = 16;

template <const auto& M, int K, int Side>
struct Scatter {
  template <int Bytes, class T>
  static PGVAE_INLINE void run(const T* from, T* image, Grid g, int64_t begin, int64_t end) {
    const int64_t blocks = (g.channels + kBlock - 1) / kBlock, tiles = g.rows * g.columns;
    for (int64_t work = begin; work < end; ++work) {
      const int64_t n = work / blocks, first = work % blocks * kBlock;
      scatter<T, M, K, Side, true, Bytes>(from + n * tiles * g.channels, g.tiles() * g.channels,
                                          image, g, n * tiles, (n + 1) * tiles, first,
                                          std::min(g.channels, first + kBlock));
    }
  }
};

template <class Kernel, class T>
Tensor gather_all(const Tensor& given, bool up2, GridOf* grid_of) {
  STD_TORCH_CHECK(given.dim() == 4, "an image is [N, C, H, W]");
  const Tensor image = in_format(given, true);
  const Sizes sizes(up2);
  const Grid first = grid_of(image.size(0), image.size(1), image.size(2), image.size(3), up2, 0);
  const int64_t tiles = first.tiles();
  const int64_t shape[3] = {sizes.phases * sizes.coefficients, tiles, first.channels};
  Tensor result = torch::stable::new_empty(image, {shape, 3});
  for (int phase = 0; phase < sizes.phases; ++phase) {
    const Grid g = grid_of(first.n, first.channels, first.h, first.w, up2, phase);
    T* to = mutable_data<T>(result) + phase * sizes.coefficients * tiles * g.channels;
    parallel(tiles, 16 * g.channels, [&](int64_t begin, int64_t end) {
      widest<Kernel>(data<T>(image), to, g, begin, end);
    });
  }
  return result;
}

template <class Kernel, class T>
Tensor scatter_all(const Tensor& given, int64_t n, int64_t h, int64_t w, bool up2,
                   GridOf* grid_of) {
  STD_TORCH_CHECK(given.dim() == 3, "coefficients are [K, tiles, C]");
  const Sizes sizes(up2);
  const Tensor coefficients = in_format(given);
  const int64_t channels = given.size(2), blocks = (channels + kBlock - 1) / kBlock;
  const Grid first = grid_of(n, channels, h, w, up2, 0);
  STD_TORCH_CHECK(given.size(0) == sizes.phases * sizes.coefficients &&
                      given.size(1) == first.tiles(),
                  "coefficients of another image");
  Tensor image = empty_as(given, {n, channels, h, w, true});
  torch::stable::zero_(image);
  for (int phase = 0; phase < sizes.phases; ++phase) {
    const Grid g = grid_of(n, channels, h, w, up2, phase);
    const T* from = data<T>(coefficients) + phase * sizes.coefficients * given.size(1) * channels;
    parallel(n * blocks, h * w * kBlock, [&](int64_t begin, int64_t end) {
      widest<Kernel>(from, mutable_data<T>(image), g, begin, end);
    });
  }
  return image;
}

template <class Narrow, class Wide>
Tensor gather_either(const Tensor& image, bool up2, GridOf* grid_of) {
  return with_type(image, [&](auto type) {
    using T = decltype(type);
    return up2 ? gather_all<Wide, T>(image, up2, grid_of)
               : gather_all<Narrow, T>(image, up2, grid_of);
  });
}

template <class Narrow, class Wide>
Tensor scatter_either(const Tensor& given, int64_t n, int64_t h, int64_t w, bool up2,
                      GridOf* grid_of) {
  return with_type(given, [&](auto type) {
    using T = decltype(type);
    return up2 ? scatter_all<Wide, T>(given, n, h, w, up2, grid_of)
               : scatter_all<Narrow, T>(given, n, h, w, up2, grid_of);
  });
}

Tensor winograd_input(const Tensor& x, bool up2) {
  return gather_either<Gather<kInput3, 6, 6>, Gather<kInput2, 5, 5>>(x, up2, input_grid);
}

Tensor winograd_input_backward(const Tensor& g, int64_t n, int64_t h, int64_t w, bool up2) {
  return scatter_either<Scatter<kInput3T, 6, 6>, Scatter<kInput2T, 5, 5>>(g, n, h, w, up2,
                                                                          input_grid);
}

Tensor winograd_output(const Tensor& products, int64_t n, int64_t h, int64_t w, bool up2) {
  return scatter_either<Scatter<kOutput3, 6, 4>, Scatter<kOutput2, 5, 4>>(products, n, h, w, up2,
                                                                          output_grid);
}

Tensor winograd_output_backward(const Tensor& g, bool up2) {
  return gather_either<Gather<kOutput3T, 6, 4>, Gather<kOutput2T, 5, 4>>(g, up2, output_grid);
}

template <bool Up2, class T>
Tensor filters_of(const Tensor& weight) {
  const Tensor given = in_format(weight, true);
  const int64_t outputs = weight.size(0), inputs = weight.size(1), columns = 9 * inputs;
  const int64_t shape[3] = {Winograd<Up2>::kPhases * Winograd<Up2>::kCoefficients, inputs,
                            outputs};
  Tensor filters = torch::stable::new_empty(weight, {shape, 3});
  const std::unique_ptr<T[]> turned(new T[outputs * columns]);
  parallel(columns, outputs, [&](int64_t begin, int64_t end) {
    widest<Transpose>(data<T>(given), turned.get(), outputs, columns, begin, end);
  });
  parallel(inputs, shape[0] * outputs, [&](int64_t begin, int64_t end) {
    widest<ToFilters<Up2>>(static_cast<const T*>(turned.get()), mutable_data<T>(filters),
                           inputs * outputs, Taps::apart(inputs, outputs), begin, end);
  });
  return filters;
}

template <bool Up2, class T>
Tensor weight_of(const Tensor& given) {
  const Tensor filters = in_format(given);
  const int64_t inputs = given.size(1), outputs = given.size(2), columns = 9 * inputs;
  Tensor weight = empty_as(given, {outputs, inputs, 3, 3, true});
  const std::unique_ptr<T[]> turned(new T[outputs * columns]);
  parallel(inputs, given.size(0) * outputs, [&](int64_t begin, int64_t end) {
    widest<FromFilters<Up2>>(data<T>(filters), inputs * outputs, turned.get(),
                             Taps::apart(inputs, outputs), begin, end);
  });
  parallel(outputs, columns, [&](int64_t begin, int64_t end) {
    widest<Transpose>(static_cast<const T*>(turned.get()), mutable_data<T>(weight), columns,
                      outputs, begin, end);
  });
  return weight;
}

Tensor winograd_filters(const Tensor& weight, bool up2) {
  STD_TORCH_CHECK(weight.dim() == 4 && weight.size(2) == 3 && weight.size(3) == 3,
                  "a weight is [O, I, 3, 3]");
  return with_type(weight, [&](auto type) {
    using T = decltype(type);
    return up2 ? filters_of<true, T>(weight) : filters_of<false, T>(weight);
  });
}

Tensor winograd_filters_backward(const Tensor& g, bool up2) {
  const Sizes sizes(up2);
  STD_TORCH_CHECK(g.dim() == 3 && g.size(0) == sizes.phases * sizes.coefficients,
                  "filters are [36 or 100, I, O]");
  return with_type(g, [&](auto type) {
    using T = decltype(type);
    return up2 ? weight_of<true, T>(g) : weight_of<false, T>(g);
  });
}

STABLE_TORCH_LIBRARY_IMPL(pgvae, CPU, m) {
  m.impl("winograd_filters", TORCH_BOX(&winograd_filters));
  m.impl("winograd_filters_backward", TORCH_BOX(&winograd_filters_backward));
  m.impl("winograd_input", TORCH_BOX(&winograd_input));
  m.impl("winograd_input_backward", TORCH_BOX(&winograd_input_backward));
  m.impl("winograd_output", TORCH_BOX(&winograd_output));
  m.impl("winograd_output_backward", TORCH_BOX(&winograd_output_backward));
}

}  // namespace
}  // namespace pgvae
