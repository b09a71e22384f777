//go:build !weak

package launch

func (b *startJob) weaken([]int) {}
func (p *program) weaken()       {}
func (p *program) weakenJoined() {}
