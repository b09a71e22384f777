package specconv

import (
	"errors"
	"os"

	"stead/runtime/launch"
)

// Error is a start that failed before the keeper had a part in it.
type Error struct {
	Where   launch.Where
	Message string
}

func (e *Error) Error() string { return e.Message }

// Reason is what an error of the file system says, without the path.
func Reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
