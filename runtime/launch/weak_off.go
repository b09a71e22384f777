//go:build !weak

package launch

func (b *birth) weaken([]int)    {}
func (p *program) weaken()       {}
func (p *program) weakenJoined() {}
