#include "textflag.h"

// func rawClone(args *cloneArgs, size, tls uintptr, t *table) uintptr
TEXT ·rawClone(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	tls+16(FP), R9
	MOVD	t+24(FP), R10 // the kernel keeps all but R0
	MOVD	$435, R8      // SYS_clone3
	SVC
	CBZ	R0, child
	MOVD	R0, ret+32(FP)
	RET
child:
	CBZ	R9, run
	MSR	R9, TPIDR_EL0
run:
	SUB	$32, RSP
	MOVD	ZR, 0(RSP)  // no return address
	MOVD	R10, 8(RSP) // the argument
	BL	·runChild(SB)
	BRK

// func rawVfork(flags uintptr) uintptr
//
// clone(flags, stack, parent_tid, tls, child_tid), which is another order than on amd64
// and the same here, as all but flags are 0. The return address is in R30, which each of
// the two processes has for itself.
TEXT ·rawVfork(SB),NOSPLIT|NOFRAME,$0-16
	MOVD	flags+0(FP), R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$220, R8 // SYS_clone
	SVC
	MOVD	R0, ret+8(FP)
	RET
