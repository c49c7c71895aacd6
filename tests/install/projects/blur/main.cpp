// Calls the compiled kernel and compares it with a plain loop.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "blur.h"

int main() {
  constexpr std::int32_t height = 37, width = 53;  // neither is a multiple of the schedule's vectors
  std::vector<float> x(height * width);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 101);
  std::vector<float> out(static_cast<std::size_t>(blur_out_elements(height, width)), NAN);
  if (blur(height, width, x.data(), out.data()) != 0) {
    std::printf("blur failed: %s\n", blur_error());
    return 1;
  }
  for (std::int32_t r = 0; r < height - 2; ++r)
    for (std::int32_t c = 0; c < width - 2; ++c) {
      double sum = 0;
      for (int dr = 0; dr < 3; ++dr)
        for (int dc = 0; dc < 3; ++dc) sum += static_cast<double>(x[(r + dr) * width + c + dc]);
      const double got = static_cast<double>(out[r * (width - 2) + c]);
      if (!(std::abs(got - sum / 9) < 1e-4)) {
        std::printf("blur: (%d, %d) is %g, expected %g\n", r, c, got, sum / 9);
        return 1;
      }
    }
  // An image without room for one window is refused, not read beyond its end.
  if (blur(2, width, x.data(), out.data()) == 0) {
    std::printf("blur took an image of two rows\n");
    return 1;
  }
  std::printf("blur: as the reference says\n");
}
