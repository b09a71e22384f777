package spec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MaxFileSize is the maximum size of a manifest file in bytes. It limits the time to
// read a file of any content to about a second.
const MaxFileSize = 1 << 20

// Parser reads manifests. The zero value is ready to use. Host is the name of the host
// that runs the manifests, with its domain if that is known.
type Parser struct {
	Host string
}

// Document is one manifest of a file.
type Document struct {
	// Index is the number of the document in its file, from 0, without empty documents.
	Index int
	// Line is the first line of the content, from 1.
	Line int
	// NameLine and NameColumn are the position of the name; 0 if there is none.
	NameLine, NameColumn int
	// Name is metadata.name if that is a valid name, else "". An invalid document may
	// have a Name too.
	Name string
	// Elsewhere is set for a valid manifest that is not for this host.
	Elsewhere bool
	// Container is the manifest with its defaults filled in, expanded,
	// validated and normalised; nil if there are Errors. With replicas it is the first of
	// them.
	Container *Container
	// Fingerprint is the fingerprint of Container.
	Fingerprint Fingerprint
	// Replicas are all containers of a valid manifest with replicas; nil without.
	Replicas []Instance
	// IsImage is set for a document that declares an image.
	IsImage bool
	// Image is the manifest of a document that declares an image; nil if there are Errors.
	Image *Image
	// Root is the position of rootfs.image, without a message; nil if the root is no image.
	Root *Error
	// Writable are the paths of the host that a valid manifest asks to write.
	Writable []WritablePath
	// Sources are the files and directories of the host from which the containers of a valid
	// manifest take content.
	Sources []Source
	// Errors are all errors of the document, in the order of their positions.
	Errors []*Error
	// Warnings are about parts of a valid manifest that probably do not mean what their
	// author intended.
	Warnings []*Error
	// Foreign is set for a document that is not meant as a manifest: neither its
	// apiVersion nor its kind is one of stead.
	Foreign bool
}

// Error is one error of a manifest.
type Error struct {
	File         string
	Line, Column int    // from 1; 0 where unknown
	Path         string // as in spec.resources.memory; "" for the document as a whole
	Message      string
}

// Error returns file:line:column: path: message, without the unknown parts.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	for _, n := range []int{e.Line, e.Column} {
		if n > 0 {
			if b.Len() > 0 {
				b.WriteByte(':')
			}
			b.WriteString(strconv.Itoa(n))
		}
	}
	for _, part := range []string{e.Path, e.Message} {
		if part != "" {
			if b.Len() > 0 {
				b.WriteString(": ")
			}
			b.WriteString(part)
		}
	}
	return b.String()
}

// Parse reads all documents of a file. It returns at least one: a file without a
// manifest gives a document with an error. A document that is not valid YAML is the
// last one, since nothing after it can be read.
func (p Parser) Parse(file string, data []byte) []Document {
	return p.ParseWith(file, data, nil)
}

// ParseWith reads all documents of a file as Parse does, and merges the drop-in
// fragments for the name of each container over its manifest before decoding it.
func (p Parser) ParseWith(file string, data []byte, fragments func(name string) []*Fragment) []Document {
	if e := checkText(data); e != nil {
		e.File = file
		return []Document{{Line: max(e.Line, 1), Errors: []*Error{e}, Foreign: isForeignText(data)}}
	}
	var docs []Document
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var root yaml.Node
		err := decoder.Decode(&root)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			e := syntaxError(data, err)
			e.File = file
			docs = append(docs, Document{Index: len(docs), Line: e.Line, Name: nameBefore(data, e.Line), Errors: []*Error{e}, Foreign: isForeignText(data)})
			break
		}
		if isEmpty(&root) {
			continue
		}
		doc := p.parseDocument(file, root.Content[0], fragments)
		doc.Index = len(docs)
		docs = append(docs, doc)
	}
	if len(docs) == 0 {
		return []Document{{Line: 1, Errors: []*Error{{File: file, Line: 1, Message: "holds no manifest (the file is empty or has only comments)"}}}}
	}
	return docs
}

// parseDocument reads one manifest.
func (p Parser) parseDocument(file string, root *yaml.Node, fragments func(name string) []*Fragment) Document {
	aliasError := expandAliases(root)
	doc := Document{Line: root.Line, Name: readName(root), Foreign: isForeign(root)}
	if doc.Name != "" {
		n := lookup(lookup(root, "metadata"), "name")
		doc.NameLine, doc.NameColumn = n.Line, n.Column
	}
	if aliasError != nil {
		aliasError.File = file
		doc.Errors = []*Error{aliasError}
		return doc
	}
	if kind := lookup(root, "kind"); kind != nil && kind.Value == ImageKind && !doc.Foreign {
		p.parseImage(file, root, &doc)
		return doc
	}
	d := &decoder{file: file}
	c := &Container{}
	var over []*Fragment
	if fragments != nil && doc.Name != "" {
		over = fragments(doc.Name)
	}
	if e := foreignError(root); e != nil {
		e.File = file
		d.errs = append(d.errs, e)
	} else if d.checkPlain(root, "") && d.applyDropIns(&root, over) {
		d.decodeContainer(root, c)
		c.leaveToImage(root)
		doc.Replicas = d.finish(c, ShortHost(p.Host))
	}
	sortErrors(d.errs, file, over)
	if doc.Errors = d.errs; len(d.errs) > 0 {
		doc.Replicas = nil
		return doc
	}
	all := []Instance{{Container: c}}
	if doc.Replicas != nil {
		all, c = doc.Replicas, doc.Replicas[0].Container
	}
	for _, one := range all {
		doc.Writable = append(doc.Writable, d.writablePaths(&one.Spec)...)
		doc.Sources = append(doc.Sources, d.sources(one.Container)...)
	}
	doc.Container, doc.Fingerprint, doc.Warnings = c, c.Fingerprint(), d.warnings
	if c.Spec.Rootfs.Image != "" {
		doc.Root = d.place("spec.rootfs.image")
	}
	doc.Elsewhere = !MatchHost(c.Spec.Hosts, p.Host)
	return doc
}

// finish expands, checks and normalises a decoded manifest. It returns the containers of a
// manifest with replicas, and nil for any other, which is c itself.
func (d *decoder) finish(c *Container, host string) []Instance {
	if c.Spec.Replicas != nil {
		if d.checkReplicas(c) {
			return d.finishReplicas(c, host)
		}
		c.Replica = &Replica{Of: c.Metadata.Name} // so that the other errors are those of a replica
	}
	d.expandReferences(c, host)
	d.check(c)
	normalise(c)
	return nil
}

// sortErrors sorts errors by position: those of the manifest first, then those of each
// fragment.
func sortErrors(errs []*Error, file string, over []*Fragment) {
	rank := func(e *Error) int {
		if e.File == file {
			return -1
		}
		return slices.IndexFunc(over, func(f *Fragment) bool { return f.File == e.File })
	}
	slices.SortStableFunc(errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// readName returns metadata.name of a document that may be invalid otherwise.
func readName(root *yaml.Node) string {
	name := lookup(lookup(root, "metadata"), "name")
	if name == nil || name.Kind != yaml.ScalarNode || CheckName(name.Value) != nil {
		return ""
	}
	return name.Value
}

// nameBefore returns the name of a document that has a syntax error on a line, from the
// lines above it.
func nameBefore(data []byte, line int) string {
	above := bytes.Join(bytes.SplitAfterN(data, []byte("\n"), line)[:line-1], nil)
	if at := bytes.LastIndex(above, []byte("\n---")); at >= 0 {
		above = above[at+1:]
	}
	var root yaml.Node
	if err := yaml.Unmarshal(above, &root); err != nil || len(root.Content) == 0 {
		return ""
	}
	return readName(root.Content[0])
}

// lookup returns the value of a key, nil if n is not a map or has no such key.
func lookup(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// checkText refuses text that can't be a manifest. It does so before YAML parsing, which
// would lose the position.
func checkText(data []byte) *Error {
	if len(data) > MaxFileSize {
		return &Error{Message: fmt.Sprintf("is %d bytes; a manifest file has at most %s", len(data), Bytes(MaxFileSize))}
	}
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return &Error{Line: 1, Column: 1, Message: "is UTF-16; save it as UTF-8"}
	}
	line, start := 1, 0
	for i := 0; i < len(data); {
		c := data[i]
		size := 1
		switch {
		case c == '\n':
			line, start = line+1, i+1
		case c < ' ' && c != '\t' && c != '\r' || c == 0x7f:
			return &Error{Line: line, Column: utf8.RuneCount(data[start:i]) + 1, Message: fmt.Sprintf("holds a control character (0x%02x); want text in UTF-8", c)}
		case c >= utf8.RuneSelf:
			var r rune
			if r, size = utf8.DecodeRune(data[i:]); r == utf8.RuneError && size == 1 {
				return &Error{Line: line, Column: utf8.RuneCount(data[start:i]) + 1, Message: fmt.Sprintf("holds a byte (0x%02x) that is not UTF-8; save it as UTF-8", c)}
			}
		}
		i += size
	}
	return nil
}

// conflictLine returns the line of the first merge conflict marker, 0 if there is none.
func conflictLine(data []byte) int {
	mark := []byte("<<<<<<< ")
	if bytes.HasPrefix(data, mark) {
		return 1
	}
	if i := bytes.Index(data, append([]byte("\n"), mark...)); i >= 0 {
		return bytes.Count(data[:i+1], []byte("\n")) + 1
	}
	return 0
}

// syntaxError turns an error of yaml.v3 into an Error.
func syntaxError(data []byte, err error) *Error {
	if line := conflictLine(data); line > 0 {
		return &Error{Line: line, Column: 1, Message: "holds a merge conflict (<<<<<<<); solve it and commit"}
	}
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1 // where yaml.v3 names no line, it means the first
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		digits, tail := splitNumber(rest)
		if n, err := strconv.Atoi(digits); err == nil {
			line, message = n, strings.TrimPrefix(tail, ": ")
			if strings.HasPrefix(message, "did not find expected") {
				line++ // its parser counts from 0, only its scanner from 1
			}
		}
	}
	lines := bytes.Count(bytes.TrimRight(data, "\r\n"), []byte("\n")) + 1
	e := &Error{Line: min(line, lines), Message: "not valid YAML: " + escape(message, 200)}
	if name, ok := strings.CutPrefix(message, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		if at := bytes.Index(data, []byte("*"+name)); at >= 0 {
			e.Line = bytes.Count(data[:at], []byte("\n")) + 1
			e.Column = utf8.RuneCount(data[bytes.LastIndexByte(data[:at], '\n')+1:at]) + 1
		}
	}
	e.Message += syntaxHint(data, e)
	return e
}

// syntaxHint explains the errors for which the messages of yaml.v3 are least clear.
func syntaxHint(data []byte, e *Error) string {
	lines := bytes.SplitN(data, []byte("\n"), e.Line+1)
	text := string(lines[e.Line-1])
	indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
	if at := strings.IndexByte(indent, '\t'); at >= 0 {
		e.Column = at + 1
		return "; indent with spaces, not tabs"
	}
	if strings.Contains(e.Message, "mapping values are not allowed") {
		return "; look at the indentation, and quote a text that holds \": \""
	}
	if at := strings.IndexByte(text, '!'); at > 0 && strings.Contains("[, ", text[at-1:at]) {
		return "; quote a text that begins with !"
	}
	return ""
}
