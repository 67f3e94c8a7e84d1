// The launchers of the .cu files: plain pointers and sizes, so that neither side needs the
// other's headers. All tensors are dense in one memory format and on the current device.
#pragma once

#include <cstdint>

namespace pgvae {

enum class Number { Float, BFloat16 };

// `partial` below is scratch for sums over pixels: kPartials * c floats.
constexpr int kPartials = 1056;

// An activation [n, c, h, w].
struct Activation {
  int64_t n, c, h, w;
  bool channels_last;
  Number number;
  void* stream;
};

struct BiasAct {
  const void* x;      // forward: input; backward: the output's gradient
  const void* y;      // backward: the output
  const float* bias;  // forward
  void* out;          // y, or the input's gradient
  float* partial;     // backward
  float* bias_gradient;
  float slope;
};
void bias_act(const Activation&, const BiasAct&);
void bias_act_backward(const Activation&, const BiasAct&);

struct PixelNorm {
  const void* x;  // as in BiasAct
  const void* y;
  const float* bias;
  void* out;
  float* rstd;  // [n, h, w]: written forward, read backward
  float* partial;
  float* bias_gradient;
  bool norm_first;
  float slope, eps;
};
void bias_act_pixel_norm(const Activation&, const PixelNorm&);
void bias_act_pixel_norm_backward(const Activation&, const PixelNorm&);

struct AvgPool2 {
  const void* x;  // forward: [n, c, h, w]; backward: the gradient [n, c, h / 2, w / 2]
  const float* bias;
  void* out;       // forward: [n, c, h / 2, w / 2]; backward: [n, c, h, w]
  uint8_t* signs;  // [n, c, h / 2, w / 2]: written forward, read backward
  float* partial;
  float* bias_gradient;
  float slope;
};
void bias_act_avg_pool2(const Activation&, const AvgPool2&);
void bias_act_avg_pool2_backward(const Activation&, const AvgPool2&);

// phases [n, c, h, w] and whole [n, c, 2h, 2w]; the Activation is that of a phase.
void interleave2(const Activation&, const void* const phases[4], void* whole);
void deinterleave2(const Activation&, const void* whole, void* const phases[4]);

struct Up2Blend {
  const void* old_images;  // [n, c, h / 2, w / 2], forward
  const void* images;      // forward: new; backward: the gradient
  const float* alpha;
  void* out;            // forward: [n, c, h, w]; backward: the gradient of new
  void* old_gradient;   // [n, c, h / 2, w / 2], backward
};
void up2_blend(const Activation&, const Up2Blend&);
void up2_blend_backward(const Activation&, const Up2Blend&);

struct MomentKl {
  const float* z;  // [count, d]
  int64_t count, d;
  bool project;
  float* scale;  // scratch [count]
  float* mean;   // [d]: written forward, read backward
  float* m2;
  float* kl;
  const float *kl_gradient, *mean_gradient, *m2_gradient;  // each may be null
  float* z_gradient;
  void* stream;
};
void moment_kl(const MomentKl&);
void moment_kl_backward(const MomentKl&);

struct GaussianKl {
  const float *mu, *logvar, *noise;  // [count, d]; rows of mu and logvar may be further apart
  int64_t count, d, mu_stride, logvar_stride;
  float *z, *kl;                          // forward
  const float *z_gradient, *kl_gradient;  // backward
  float *mu_gradient, *logvar_gradient;
  void* stream;
};
void gaussian_kl_reparam(const GaussianKl&);
void gaussian_kl_reparam_backward(const GaussianKl&);

}  // namespace pgvae
