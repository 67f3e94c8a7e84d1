// What the CUDA ops need on torch's side: the current device and its stream, number types, scratch.
#pragma once

#include "../tensor.h"  // first: simt.h gives words of CUDA other meanings

#include <initializer_list>

#include "device.h"

#ifdef PGVAE_EMULATED  // for CPU tensors, in tests without a GPU
#define PGVAE_DEVICE CPU
#else
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#define PGVAE_DEVICE CUDA
#endif

namespace pgvae {

#ifdef PGVAE_EMULATED
struct OnDevice {
  void* stream = nullptr;
  explicit OnDevice(const Tensor&) {}
};
#else
// torch's stream lookup, from the part of it that only a torch with CUDA has: linked to that, this
// library would not load elsewhere.
using StreamLookup = AOTITorchError(int32_t, void**);
inline StreamLookup* stream_lookup() {
  static void* const library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
  static void* const function =
      library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
  STD_TORCH_CHECK(function, "this torch has no CUDA");
  return reinterpret_cast<StreamLookup*>(function);
}

// Makes the device of `x` current, and finds its stream.
struct OnDevice {
  torch::stable::accelerator::DeviceGuard guard;
  void* stream = nullptr;

  explicit OnDevice(const Tensor& x) : guard(x.get_device_index()) {
    STABLE_TORCH_ERROR_CODE_CHECK(stream_lookup()(x.get_device_index(), &stream));
  }
};
#endif

inline void check_number(bool known) {
  STD_TORCH_CHECK(known, "float32 or bfloat16 is needed");
}

// Calls f(T{}) with the number type of a tensor.
template <class F>
void dispatch(ScalarType type, const F& f) {
  if (type == ScalarType::Float) return f(float{});
  check_number(type == ScalarType::BFloat16);
  f(bfloat16{});
}

// Scratch for sums over pixels: a number a channel from every block.
inline Tensor partial_sums(const Tensor& like, int64_t channels) {
  return empty_1d(like, kMostBlocks * channels, ScalarType::Float);
}

// Whether a thread can move 16 bytes of channels at a time.
template <class T>
bool has_vectors(const Shape& s, std::initializer_list<const void*> pointers) {
  bool can = s.channels_last && s.c > 0 && s.c % Vector<T>::kSize == 0;
  for (const void* pointer : pointers) can = can && is_aligned(pointer);
  return can;
}

}  // namespace pgvae
