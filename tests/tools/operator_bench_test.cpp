#include "tools/operator_bench.hpp"

#include <algorithm>

#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "targets/target.hpp"

using namespace heddle;
using namespace heddle::tools;

namespace {

OperatorRequest request(const char* op, const char* shape) { return parse_shape(Operators().get(op), shape, {}); }

std::vector<std::string> operands(const OperatorRequest& r) {
  std::vector<std::string> texts;
  for (const TensorType& type : r.inputs) texts.push_back(type.str());
  return texts;
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("a shape names the type of a layer", "[shape]") {
  CHECK(operands(request("conv", "ci=8,h=6,co=4,k=3")) == Texts{"f32[1,8,6,6]", "f32[4,8,3,3]", "f32[4]"});
  CHECK(operands(request("conv", "ci=8,h=6,co=4,k=3,type=f32")) == operands(request("conv", "ci=8,h=6,co=4,k=3")));
  CHECK(operands(request("conv", "type=bf16,ci=8,h=6,co=4,k=3")) == Texts{"bf16[1,8,6,6]", "bf16[4,8,3,3]", "f32[4]"});
  CHECK(operands(request("matmul", "m=5,n=4,k=3,type=bf16")) == Texts{"bf16[5,3]", "bf16[3,4]"});
  CHECK_FALSE(request("matmul", "m=5,n=4,k=3,type=bf16").requantization);
}

TEST_CASE("layers of bytes make bytes", "[shape]") {
  const auto conv = request("conv", "ci=8,h=6,co=4,k=3,groups=2,type=int8");
  CHECK(operands(conv) == Texts{"u8[1,8,6,6]", "i8[4,4,3,3]", "i32[4]"});
  CHECK(conv.requantization.value().shape() == Shape{4, 1, 1});
  CHECK(operands(request("conv", "ci=8,h=6,co=4,k=1,bias=0,type=int8")).size() == 2);
  CHECK(request("matmul", "m=5,n=4,k=3,type=int8").requantization.value().shape() == Shape{4});
  const auto product = request("matmul", "b=2,m=5,n=4,k=3,type=int8");
  CHECK(operands(product) == Texts{"u8[2,5,3]", "i8[2,3,4]"});
  CHECK(product.requantization.value().shape().empty());

  for (const auto& r : {conv, product}) {
    const Workload workload = operator_workload(r, host_target(), 1);
    CHECK(workload.output_types().at(0).dtype == DType::u8);
    CHECK(multiplied(workload) == DType::u8);
  }
}

TEST_CASE("operands written out stay one operator", "[shape]") {
  const auto r = request("conv", "x=u8[1,8,6,6],w=i8[4,8,1,1]");
  CHECK_FALSE(r.requantization);
  CHECK(operator_workload(r, host_target(), 1).output_types().at(0).dtype == DType::i32);
}

TEST_CASE("what is multiplied", "[shape]") {
  const auto numbers = [](const char* op, const char* shape) {
    return multiplied(operator_workload(request(op, shape), host_target(), 1));
  };
  CHECK(numbers("conv", "ci=8,h=6,co=4,k=3") == DType::f32);
  CHECK(numbers("conv", "ci=8,h=6,co=4,k=3,type=bf16") == DType::bf16);
  CHECK(numbers("matmul_blocks", "m=2,n=16,k=32") == DType::f32);
  CHECK(numbers("relu", "x=bf16[4,4]") == DType::f32);
}

TEST_CASE("a type that a layer has not is told with those that it has", "[shape]") {
  CHECK_THROWS_WITH(request("conv", "ci=8,h=6,co=4,k=3,type=int4"),
                    "--shape type=int4: conv has no such type (did you mean 'int8'?); it has f32, bf16, int8");
  CHECK_THROWS_WITH(request("matmul", "m=1,n=1,k=1,type="), Catch::Contains("matmul has no such type"));
  CHECK_THROWS_WITH(request("matmul", "m=1,n=1,k=1,typ=bf16"), Catch::Contains("did you mean 'type'?"));
  CHECK_THROWS_WITH(request("matmul_blocks", "m=1,n=1,k=32,type=int8"), Catch::Contains("no key 'type'"));
}

TEST_CASE("kernels of layers of bytes are right", "[shape]") {
  ModelOptions options;
  options.threads = 1;
  for (const char* shape : {"ci=8,h=6,co=20,k=3,p=1,type=int8", "ci=8,h=6,co=8,k=3,groups=8,type=int8"})
    CHECK(OperatorBench(request("conv", shape), options).check() == "");
}
