package specconv

import (
	"errors"
	"os"

	"stead/runtime/launch"
)

// Error is the failure of a start before the keeper is asked.
type Error struct {
	Where   launch.Where
	Message string
}

func (e *Error) Error() string { return e.Message }

// Reason returns an error of the file system without its path.
func Reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
