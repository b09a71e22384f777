// Package bench holds what `make bench` measures stead against: floor.c, the
// kernel's own limit in plain C, and run.sh, which puts all figures into one
// table.
package bench
