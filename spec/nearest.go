package spec

import "strings"

// Nearest returns the name that is most similar to a mistyped word, "" if none is
// similar: at most a third of the letters may differ.
func Nearest(word string, names []string) string {
	best, least := "", len(word)/3+1
	if len(word) > 40 || len(word) < 2 {
		return ""
	}
	for _, name := range names {
		if n := editDistance(strings.ToLower(word), strings.ToLower(name)); n < least || n == least && best == "" {
			best, least = name, n
		}
	}
	return best
}

// editDistance returns how many letters must be added, dropped, changed or swapped with
// their neighbour to turn a into b (optimal string alignment).
func editDistance(a, b string) int {
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := above[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
