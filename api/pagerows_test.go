package api

import "testing"

func TestSetRows_DefaultsAndBounds(t *testing.T) {
	for _, c := range []struct{ byDefault, most, wantDefault, wantMost int }{
		{0, 0, DefaultRows, DefaultRows},
		{7, 0, 7, DefaultRows},
		{500, 0, 500, 500},
		{0, 5, 5, 5},
		{50, 20, 20, 20},
	} {
		s := newTestServer(t, Options{Store: newFakeStore(), DefaultRows: 3, MaximumRows: 4})
		s.SetRows(c.byDefault, c.most)
		if got := s.rows.Load(); got.byDefault != c.wantDefault || got.most != c.wantMost {
			t.Errorf("SetRows(%d, %d): %+v, want %d and %d", c.byDefault, c.most, *got, c.wantDefault, c.wantMost)
		}
	}
}
