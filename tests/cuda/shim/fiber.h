/* One stack and the switch to it. Each sanitizer is told of every switch, where it is linked in. */
#ifndef EMU_FIBER_H
#define EMU_FIBER_H

#include <cstddef>

namespace emu {

/* Where a flow of control stopped: its registers are on its stack. */
struct context {
  void *stack_pointer = nullptr;
  void *fake_stack = nullptr; /* AddressSanitizer's */
  void *tsan = nullptr;       /* ThreadSanitizer's */
  void *stack = nullptr;
  const void *bottom = nullptr;
  size_t bytes = 0;
};

/* Of the flow of control that calls: the scheduler's. */
void fiber_adopt(context *self);
/* Ready to begin in `entry`, which must not return, on a stack that it has to its end. */
void fiber_prepare(context *fiber, void (*entry)());
/* Stops `from` and goes on with `to`. */
void fiber_switch(context *from, context *to);
/* The same for a fiber that is not resumed again. */
[[noreturn]] void fiber_leave(context *from, context *to);
/* The first call in a fiber's entry; `back` is whoever switched to it. */
void fiber_begin(context *back);
/* A fiber that has ended gives its stack back, and what it is in a sanitizer's books; it can be prepared
 * again. */
void fiber_finish(context *fiber);

/* ThreadSanitizer's happens-before by address; nothing without it. */
void tsan_release(void *tag);
void tsan_acquire(void *tag);

} // namespace emu

#endif
