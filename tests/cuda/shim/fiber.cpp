/* Stacks and switches. Compiled without instrumentation: the sanitizers' functions are weak, so that one
 * object serves every build. */
#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#define WEAK __attribute__((weak))
extern "C" {
WEAK void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t bytes);
WEAK void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *bytes);
WEAK void *__tsan_get_current_fiber(void);
WEAK void *__tsan_create_fiber(unsigned flags);
WEAK void __tsan_destroy_fiber(void *fiber);
WEAK void __tsan_switch_to_fiber(void *fiber, unsigned flags);
WEAK void __tsan_acquire(void *address);
WEAK void __tsan_release(void *address);
}

namespace emu {

/* Stacks begin at other offsets of their pages: else what is at the top of all of them shares some few sets
 * of the caches. */
enum : size_t { STACK_BYTES = 256 << 10, OFFSET_BYTES = 17 * 64, OFFSETS = 96 };
enum : unsigned { TSAN_NO_ORDER = 1 }; /* a switch alone orders nothing */

#ifdef __x86_64__
/* What the called function must preserve goes on the stack, and the stacks change: some ns, where swapcontext
 * makes two system calls. */
extern "C" void emu_switch(void **save, void *load);
asm(".text\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emu_switch,.-emu_switch\n");

static void registers_prepare(context *fiber, void (*entry)()) {
  enum { PRESERVED = 6 };
  uintptr_t top = reinterpret_cast<uintptr_t>(fiber->stack) + fiber->bytes;
  void **place = reinterpret_cast<void **>(top);
  *--place = nullptr; /* as after a call: the return address of an entry that has none */
  *--place = reinterpret_cast<void *>(entry);
  place -= PRESERVED;
  memset(place, 0, PRESERVED * sizeof *place);
  fiber->stack_pointer = place;
}

static void registers_switch(context *from, context *to) {
  emu_switch(&from->stack_pointer, to->stack_pointer);
}
#else
static ucontext_t *registers(context *at) {
  if (at->stack_pointer == nullptr) at->stack_pointer = calloc(1, sizeof(ucontext_t));
  if (at->stack_pointer == nullptr) abort();
  return static_cast<ucontext_t *>(at->stack_pointer);
}

static void registers_prepare(context *fiber, void (*entry)()) {
  ucontext_t *made = registers(fiber);
  getcontext(made);
  made->uc_stack.ss_sp = fiber->stack;
  made->uc_stack.ss_size = fiber->bytes;
  made->uc_link = nullptr;
  makecontext(made, entry, 0);
}

static void registers_switch(context *from, context *to) {
  swapcontext(registers(from), registers(to));
}
#endif

void fiber_adopt(context *self) {
  if (__tsan_get_current_fiber) self->tsan = __tsan_get_current_fiber();
}

struct stack {
  void *data;
  size_t bytes;
};

/* The one that was given back last is in the cache: threads that wait for nobody run on it one after another.
 */
static std::vector<stack> idle;
static size_t stacks;

static stack stack_take() {
  if (!idle.empty()) {
    const stack last = idle.back();
    idle.pop_back();
    return last;
  }
  void *made =
      mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) {
    perror("emu: a fiber's stack");
    abort();
  }
  return {made, STACK_BYTES - stacks++ % OFFSETS * OFFSET_BYTES};
}

void fiber_prepare(context *fiber, void (*entry)()) {
  if (fiber->stack == nullptr) {
    const stack taken = stack_take();
    fiber->stack = taken.data;
    fiber->bottom = taken.data;
    fiber->bytes = taken.bytes;
  }
  fiber->fake_stack = nullptr;
  if (__tsan_create_fiber) fiber->tsan = __tsan_create_fiber(0);
  registers_prepare(fiber, entry);
}

static void announce(void **fake_stack, context *to) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(fake_stack, to->bottom, to->bytes);
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(to->tsan, TSAN_NO_ORDER);
}

void fiber_switch(context *from, context *to) {
  announce(&from->fake_stack, to);
  registers_switch(from, to);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
}

void fiber_leave(context *from, context *to) {
  announce(nullptr, to);
  registers_switch(from, to);
  abort();
}

void fiber_begin(context *back) {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &back->bottom, &back->bytes);
}

void fiber_finish(context *fiber) {
  if (__tsan_destroy_fiber) __tsan_destroy_fiber(fiber->tsan);
  if (__tsan_create_fiber) return; /* two threads on one stack would look like a race */
  idle.push_back({fiber->stack, fiber->bytes});
  fiber->stack = nullptr;
}

void tsan_release(void *tag) {
  if (__tsan_release) __tsan_release(tag);
}

void tsan_acquire(void *tag) {
  if (__tsan_acquire) __tsan_acquire(tag);
}

} // namespace emu
