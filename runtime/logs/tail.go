package logs

import (
	"os"
)

// tail emits the last lines. It reads files from the newest back, as far as needed.
func (r *reader) tail(newestFirst []*os.File) error {
	lines := 0
	var parts [][]Record
	for _, f := range newestFirst {
		records, err := r.collect(f, f == r.file)
		if err != nil {
			return err
		}
		parts = append(parts, records)
		if lines += countLines(records); lines >= r.o.Tail {
			break
		}
	}
	return r.emitTail(parts)
}

func (r *reader) collect(f *os.File, current bool) (all []Record, err error) {
	err = r.scan(f, current, func(x Record) error { all = append(all, x); return nil })
	return all, err
}

func countLines(records []Record) (n int) {
	for _, x := range records {
		if !x.Part {
			n++
		}
	}
	return n
}

func (r *reader) emitTail(newestFirst [][]Record) error {
	var all []Record
	for i := len(newestFirst) - 1; i >= 0; i-- {
		all = append(all, newestFirst[i]...)
	}
	from, lines := len(all), 0
	for from > 0 {
		if !all[from-1].Part {
			if lines == r.o.Tail {
				break
			}
			lines++
		} else if lines == 0 && r.o.Tail == 0 {
			break
		}
		from--
	}
	for _, x := range all[from:] {
		if err := r.emit(x); err != nil {
			return err
		}
	}
	return nil
}
