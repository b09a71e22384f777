//go:build !weak

package keeper

func (s *server) weaken(string) {}
