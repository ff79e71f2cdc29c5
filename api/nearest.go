package api

import "strings"

// nearest names what may be meant by a word that isn't known: the closest one, or all there are.
func nearest(word string, known []string) string {
	best, least := "", len(word)/2+2
	for _, k := range known {
		if d := editDistance(strings.ToLower(cut(word, 64)), strings.ToLower(cut(k, 64))); d < least {
			best, least = k, d
		}
	}
	switch {
	case best != "":
		return "did you mean " + best + "?"
	case len(known) == 0:
		return "there are none"
	}
	return "there are " + strings.Join(known, ", ")
}

// editDistance is the number of insertions, deletions and replacements of bytes that turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
