// Package nearest finds the known name that a mistyped one was probably meant to be.
package nearest

import "unicode"

// maxLength bounds the names that are compared. The cost grows with the product of two
// lengths, and nobody mistypes a name this long.
const maxLength = 64

// Nearest returns the candidate that is closest to name, and whether one is close enough
// to be suggested. Case does not count. Insertions, deletions, replacements and swaps of
// neighbours each count one; one such difference is allowed for every three characters,
// and at least one. Of equally close candidates the first wins. Names longer than 64
// characters are not compared.
func Nearest(name string, candidates []string) (string, bool) {
	asked := fold(name)
	if len(asked) == 0 || len(asked) > maxLength {
		return "", false
	}
	best, found := "", false
	limit := max(1, len(asked)/3)
	for _, candidate := range candidates {
		known := fold(candidate)
		if len(known) == 0 || len(known) > maxLength {
			continue
		}
		// A name as short as the allowed difference would be near everything.
		if d := distance(asked, known); d <= limit && d < max(len(asked), len(known)) {
			best, found = candidate, true
			limit = d - 1
			if d == 0 {
				break
			}
		}
	}
	return best, found
}

func fold(s string) []rune {
	runes := []rune(s)
	for i, r := range runes {
		runes[i] = unicode.ToLower(r)
	}
	return runes
}

// distance is the optimal string alignment distance of a and b.
func distance(a, b []rune) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
