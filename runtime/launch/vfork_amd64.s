#include "textflag.h"

// func rawVfork(flags uintptr) uintptr
//
// clone(flags, 0, …): the child runs on this very stack while the parent
// waits, so the return address must not lie there: the child's next call would
// overwrite it. As in the standard library's rawVforkSyscall.
TEXT ·rawVfork(SB),NOSPLIT,$0-16
	MOVQ	flags+0(FP), DI
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	XORL	R9, R9
	MOVQ	$56, AX // SYS_clone
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	MOVQ	AX, ret+8(FP)
	RET
