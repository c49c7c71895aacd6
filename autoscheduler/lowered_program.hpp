#pragma once
#include <map>
#include <string>
#include <vector>

#include <Halide.h>

#include "dsl/machine.hpp"

// What a processor has to do for a lowered kernel, loop by loop. Counts come from the statements that are compiled, so
// that everything a schedule implies is in them: values computed again, windows that slide, vectors that do not divide,
// reads that cannot be loaded as vectors.
namespace heddle::autoscheduler {

/// One vector read or written in the body of a loop.
struct MemoryAccess {
  int buffer = 0;  ///< of LoweredProgram::buffers
  bool store = false;
  double bytes = 0;           ///< from the first element to the last, or of each where they are far apart
  double pieces = 1;          ///< elements far apart
  double offset = 0;          ///< bytes, in the middle of all loops
  std::vector<double> steps;  ///< bytes from one iteration of each loop around to the next, outermost first
  bool scattered = false;     ///< the places follow from data
};

/// Instructions of one iteration of a loop's body, those of the loops inside not included. Fractions come from what is
/// executed sometimes.
struct Instructions {
  double arithmetic = 0, loads = 0, stores = 0;
  double scalar = 0;  ///< of addresses and conditions
  double calls = 0;   ///< cycles in functions
};

struct LoopWork {
  std::string name;
  double extent = 1;  ///< iterations each time, in the middle of the loops around
  double share = 1;   ///< of the iterations of the loop around in which it runs
  double steps = 1;   ///< iterations that will be unrolled into one, though they have been lowered one by one
  Instructions instructions;
  double latency = 0;  ///< cycles that an iteration waits for the one before it
  std::vector<MemoryAccess> accesses;
  std::vector<LoopWork> loops;
};

struct LoweredBuffer {
  std::string name;
  double bytes = 0;   ///< 0: unknown
  int depth = -1;     ///< loops around its allocation; -1: an argument of the kernel
  bool stack = true;  ///< its place is known when compiling
};

struct LoweredProgram {
  LoopWork body;  ///< of one iteration: the whole kernel
  std::vector<LoweredBuffer> buffers;
  double values = 0;      ///< different ones that are computed
  bool complete = false;  ///< false: there were more than is worth compiling
};

/// Of the function that has the module's name, whose loops must not be parallel: those are functions of their own.
/// `arguments`: bytes of the kernel's buffers, by their names.
LoweredProgram analyse_lowered(const Halide::Module& module, const Machine& machine,
                               const std::map<std::string, double>& arguments);

}  // namespace heddle::autoscheduler
