package backup

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// archive/tar reads sparse files and does not write them. A sparse file is written here in the
// form that GNU tar calls PAX sparse format 1.0: the content is a map, followed by the data.

// extent is a part of a file with data.
type extent struct{ at, size int64 }

const (
	smallestHole = 64 << 10 // smaller ones are not worth an extent
	maxExtents   = 4096     // more are joined over the smallest holes
)

// extents returns the parts of a file that have data, and false if the file has no holes.
func extents(f *os.File, size int64) (list []extent, sparse bool) {
	for hole := int64(smallestHole); ; hole *= 4 {
		list = list[:0]
		for at := int64(0); at < size; {
			data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
			if err == unix.ENXIO { // nothing but a hole up to the end
				break
			}
			if err != nil {
				return nil, false
			}
			end, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
			if err != nil {
				return nil, false
			}
			data, end = min(data, size), min(end, size)
			if n := len(list); n > 0 && data-(list[n-1].at+list[n-1].size) < hole {
				list[n-1].size = end - list[n-1].at
			} else if end > data {
				list = append(list, extent{data, end - data})
			}
			if at = end; len(list) > maxExtents {
				break
			}
		}
		if len(list) <= maxExtents {
			total := int64(0)
			for _, e := range list {
				total += e.size
			}
			return list, size-total >= smallestHole
		}
	}
}

// sparseFile writes a regular file with holes.
func (w *writer) sparseFile(h *tar.Header, list []extent, copyTo func(e extent) error) error {
	var table bytes.Buffer
	fmt.Fprintf(&table, "%d\n", len(list)+1)
	data := int64(0)
	for _, e := range list {
		fmt.Fprintf(&table, "%d\n%d\n", e.at, e.size)
		data += e.size
	}
	fmt.Fprintf(&table, "%d\n0\n", h.Size)
	table.Write(padding(int64(table.Len())))
	records := map[string]string{
		"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": h.Name, "GNU.sparse.realsize": strconv.FormatInt(h.Size, 10),
		"path": h.Name, "uid": strconv.Itoa(h.Uid), "gid": strconv.Itoa(h.Gid), "size": strconv.FormatInt(int64(table.Len())+data, 10),
		"mtime": fmt.Sprintf("%d.%09d", h.ModTime.Unix(), h.ModTime.Nanosecond()),
	}
	if h.ModTime.Unix() < 0 { // PAX has no common form for fractions before 1970
		records["mtime"] = strconv.FormatInt(h.ModTime.Unix(), 10)
	}
	maps.Copy(records, h.PAXRecords)
	var pax strings.Builder
	for _, key := range slices.Sorted(maps.Keys(records)) {
		pax.WriteString(paxRecord(key, records[key]))
	}
	if err := w.tar.Flush(); err != nil {
		return err
	}
	w.members++
	parts := [][]byte{
		block("GNUSparseFile.0/"+path.Base(h.Name), tar.TypeXHeader, int64(pax.Len()), 0), []byte(pax.String()), padding(int64(pax.Len())),
		block(h.Name, tar.TypeReg, int64(table.Len())+data, h.Mode), table.Bytes(),
	}
	for _, p := range parts {
		if _, err := w.out.Write(p); err != nil {
			return err
		}
	}
	for _, e := range list {
		if err := copyTo(e); err != nil {
			return err
		}
	}
	_, err := w.out.Write(padding(data))
	return err
}

// paxRecord returns a record of a PAX header: its own length, key and value.
func paxRecord(key, value string) string {
	rest := len(key) + len(value) + 3
	n := rest + len(strconv.Itoa(rest))
	n = rest + len(strconv.Itoa(n))
	return fmt.Sprintf("%d %s=%s\n", n, key, value)
}

// padding returns the zeros that follow n bytes up to a full block.
func padding(n int64) []byte { return make([]byte, -n&511) }

// block returns a header block of ustar. What does not fit is in the PAX header before it.
func block(name string, kind byte, size, mode int64) []byte {
	b := make([]byte, 512)
	copy(b[:100], strings.Map(func(r rune) rune {
		if r > 127 {
			return '_'
		}
		return r
	}, name))
	octal := func(at []byte, n int64) { copy(at, fmt.Sprintf("%0*o", len(at)-1, n&(1<<(3*(len(at)-1))-1))) }
	octal(b[100:108], mode)
	octal(b[108:116], 0)
	octal(b[116:124], 0)
	octal(b[124:136], size)
	octal(b[136:148], 0)
	copy(b[148:156], "        ")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// content copies a part of a file into the archive. A file that became shorter meanwhile is
// filled up with zeros: it has changed, and comes again when the container stands still.
func content(to io.Writer, f *os.File, e extent, buffer []byte, check func() error) (short bool, err error) {
	for at, end := e.at, e.at+e.size; at < end; {
		if err := check(); err != nil {
			return short, err
		}
		b := buffer[:min(int64(len(buffer)), end-at)]
		n := 0
		if !short {
			n, err = f.ReadAt(b, at)
			if err != nil && err != io.EOF {
				return short, err
			}
		}
		if n < len(b) {
			short = true
			clear(b[n:])
		}
		if _, err := to.Write(b); err != nil {
			return short, err
		}
		at += int64(len(b))
	}
	return short, nil
}
