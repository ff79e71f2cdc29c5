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

// editDistance is the number of insertions, deletions and replacements of bytes, and of swaps of neighbours, that turn
// a into b.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			if i == 0 || j == 0 {
				rows[i][j] = i + j
				continue
			}
			cost := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				cost++
			}
			rows[i][j] = min(cost, rows[i][j-1]+1, rows[i-1][j]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
