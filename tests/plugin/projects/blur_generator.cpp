// A generator as Halide's users write them; the test runs it with the plugin.
#include <Halide.h>

class Blur : public Halide::Generator<Blur> {
 public:
  Input<Buffer<uint8_t, 2>> input{"input"};
  Input<float> gain{"gain", 1.0f};
  Output<Buffer<uint8_t, 2>> output{"output"};

  void generate() {
    bounded_ = Halide::BoundaryConditions::repeat_edge(input);
    blur_x_(x_, y_) =
        Halide::cast<float>(bounded_(x_ - 1, y_)) + 2 * bounded_(x_, y_) + Halide::cast<float>(bounded_(x_ + 1, y_));
    blur_y_(x_, y_) = Halide::cast<float>(0);
    blur_y_(x_, y_) += blur_x_(x_, y_ + rows_);
    output(x_, y_) = Halide::saturating_cast<uint8_t>(blur_y_(x_, y_) * gain / 12);
  }
  void schedule() {
    if (!using_autoscheduler()) return;
    input.set_estimates({{0, 64}, {0, 48}});
    output.set_estimates({{0, 64}, {0, 48}});
    gain.set_estimate(1.0f);
  }

 private:
  Halide::Var x_{"x"}, y_{"y"};
  Halide::RDom rows_{-1, 3, "rows"};
  Halide::Func bounded_, blur_x_{"blur_x"}, blur_y_{"blur_y"};
};

HALIDE_REGISTER_GENERATOR(Blur, blur)
