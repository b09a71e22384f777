package spec

// Suggest returns the name that a typing mistake most likely meant, or "" if no name
// is similar.
func Suggest(word string, names []string) string { return Nearest(word, names) }
