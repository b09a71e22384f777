//go:build !weak

package launch

func (b *birth) weaken([]int) {}
