#include "textflag.h"

// func rawClone(args *cloneArgs, size, tls uintptr, t *table) uintptr
TEXT ·rawClone(SB),NOSPLIT,$0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	tls+16(FP), R8
	MOVQ	t+24(FP), R9 // the kernel keeps all but AX, CX and R11
	MOVQ	$435, AX     // SYS_clone3
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, ret+32(FP)
	RET
child:
	TESTQ	R8, R8
	JZ	run
	MOVQ	$0x1002, DI // ARCH_SET_FS
	MOVQ	R8, SI
	MOVQ	$158, AX    // SYS_arch_prctl
	SYSCALL
run:
	PUSHQ	$0          // keeps the stack aligned
	PUSHQ	R9          // the argument
	CALL	·runChild(SB)
	INT	$3

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
