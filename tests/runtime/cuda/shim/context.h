/* Where a fibre goes on. Switching is a few instructions on x86-64; elsewhere ucontext, which asks the system each time. */
#ifndef P2_CONTEXT_H
#define P2_CONTEXT_H

#include <stddef.h>

#if defined(__x86_64__) && !defined(P2_UCONTEXT)

struct Context {
    void *stack;
};

/* What a function leaves as it was is kept on its stack. */
extern "C" void p2_switch(Context *from, const Context *to);
asm(R"(
    .text
    .type p2_switch, @function
    .hidden p2_switch
    .weak p2_switch
p2_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size p2_switch, . - p2_switch
)");

/* Have a fibre begin at a function that does not return. */
inline void p2_prepare(Context *made, char *stack, size_t size, void (*function)()) {
    void **top = (void **)((size_t)(stack + size) / 16 * 16);
    *--top = nullptr; /* where it would return to */
    *--top = (void *)function;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    made->stack = top;
}

#else

#include <ucontext.h>

typedef ucontext_t Context;

inline void p2_switch(Context *from, const Context *to) { swapcontext(from, to); }
inline void p2_prepare(Context *made, char *stack, size_t size, void (*function)()) {
    getcontext(made);
    made->uc_stack.ss_sp = stack;
    made->uc_stack.ss_size = size;
    made->uc_link = nullptr;
    makecontext(made, function, 0);
}

#endif

#endif
