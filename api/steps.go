package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on machines without a database of them
)

// pointStep is the length of the points of a series. One of the three is used. Seconds that divide a day are cut by
// the clock of the caller's zone, others from 1970 on; days and months are the zone's own, with 23 and 25 hours, 28
// and 31 days. Weeks begin on Monday.
type pointStep struct {
	seconds int64
	days    int64
	months  int64
}

const daySeconds = 86400

// parsePointStep reads a step: a span such as 90s, 15m, 1d, 1w, whole months (1mo) or whole years (1y).
func parsePointStep(text string) (pointStep, error) {
	for unit, months := range map[string]int64{"mo": 1, "y": 12} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 16)
			if err == nil && n > 0 && n <= 2400 {
				return pointStep{months: int64(n) * months}, nil
			}
			if err == nil {
				return pointStep{}, fmt.Errorf("%q is not between 1 and 2400", cut(text, maxValue))
			}
		}
	}
	d, err := parseStep(text)
	if err != nil {
		return pointStep{}, fmt.Errorf("%q is not a step such as 90s, 15m, 1d, 1w, 1mo or 1y", cut(text, maxValue))
	}
	return stepOf(int64(d / time.Second)), nil
}

// stepOf is a step of so many seconds: whole days are days.
func stepOf(seconds int64) pointStep {
	if seconds%daySeconds == 0 {
		return pointStep{days: seconds / daySeconds}
	}
	return pointStep{seconds: seconds}
}

func (s pointStep) String() string {
	switch {
	case s.months > 0 && s.months%12 == 0:
		return strconv.FormatInt(s.months/12, 10) + "y"
	case s.months > 0:
		return strconv.FormatInt(s.months, 10) + "mo"
	}
	return IntervalName(time.Duration(s.seconds+s.days*daySeconds) * time.Second)
}

// shortest is how many seconds a point has at least, days with a change of the clock aside.
func (s pointStep) shortest() int64 { return s.seconds + s.days*daySeconds + s.months*28*daySeconds }

// floor gives the start of the point that a time lies in.
func (s pointStep) floor(t int64, loc *time.Location) int64 {
	switch {
	case s.seconds > 0 && daySeconds%s.seconds != 0:
		return floorDiv(t, s.seconds) * s.seconds
	case s.seconds > 0:
		return floorByClock(t, s.seconds, loc)
	}
	_, e := s.point(t, loc)
	return e
}

// next gives the start of the point after the one that a time lies in.
func (s pointStep) next(t int64, loc *time.Location) int64 {
	switch {
	case s.seconds > 0 && daySeconds%s.seconds != 0:
		return (floorDiv(t, s.seconds) + 1) * s.seconds
	case s.seconds > 0:
		return nextByClock(t, s.seconds, loc)
	}
	n, e := s.point(t, loc)
	for after := e; ; n++ { // a zone may have left out a day
		if e = s.start(n+1, loc); e > after {
			return e
		}
	}
}

// edges gives the starts of the points that overlap [from, to) and the end of the last one, at most most+1 times; ok
// is false where there are more.
func (s pointStep) edges(from, to int64, loc *time.Location, most int) (edges []int64, ok bool) {
	if s.shortest() > 2 && (to-from)/(s.shortest()/2) > 3*int64(most)+3 {
		return nil, false // by far
	}
	e := s.floor(from, loc)
	for edges = append(edges, e); e < to; edges = append(edges, e) {
		if len(edges) > most {
			return nil, false
		}
		e = s.next(e, loc)
	}
	return edges, true
}

// point gives the number and the start of the point of days or months that a time lies in.
func (s pointStep) point(t int64, loc *time.Location) (n, start int64) {
	local := time.Unix(t, 0).In(loc)
	if s.months > 0 {
		n = floorDiv(int64(local.Year())*12+int64(local.Month())-1, s.months)
	} else {
		n = floorDiv(civilDay(local)-s.weekday(), s.days)
	}
	for start = s.start(n, loc); start > t; start = s.start(n, loc) {
		n--
	}
	// Where the clock was put back over midnight a time may stand in a day that has begun already.
	for after := s.start(n+1, loc); after <= t; after = s.start(n+1, loc) {
		n, start = n+1, after
	}
	return n, start
}

// start gives where a point of days or months begins.
func (s pointStep) start(n int64, loc *time.Location) int64 {
	if s.months > 0 {
		m := n * s.months
		y := floorDiv(m, 12)
		return dayStart(civilDay(time.Date(int(y), time.Month(m-y*12+1), 1, 0, 0, 0, 0, time.UTC)), loc)
	}
	return dayStart(n*s.days+s.weekday(), loc)
}

// weekday is the day from which points are counted: a Monday for whole weeks.
func (s pointStep) weekday() int64 {
	if s.days%7 == 0 {
		return 4 // 1970-01-05
	}
	return 0
}

// civilDay numbers the days of a calendar; 0 is 1970-01-01.
func civilDay(local time.Time) int64 {
	y, m, d := local.Date()
	return floorDiv(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix(), daySeconds)
}

// dayStart gives the first moment of a day. Where the clock leaves midnight out it is the change itself.
func dayStart(day int64, loc *time.Location) int64 {
	civil := day * daySeconds
	if loc == time.UTC {
		return civil
	}
	before, after := time.Unix(civil-daySeconds, 0).In(loc), time.Unix(civil+daySeconds, 0).In(loc)
	_, east := before.Zone()
	_, east2 := after.Zone()
	for _, t := range []int64{civil - int64(max(east, east2)), civil - int64(min(east, east2))} {
		if offset(t, loc) == civil-t {
			return t
		}
	}
	_, change := before.ZoneBounds()
	return change.Unix()
}

// offset is what the clock of a zone is ahead of UTC at a time, in seconds.
func offset(t int64, loc *time.Location) int64 {
	_, east := time.Unix(t, 0).In(loc).Zone()
	return int64(east)
}

// clockStep numbers what the clock of a zone shows in steps.
func clockStep(t, step int64, loc *time.Location) int64 { return floorDiv(t+offset(t, loc), step) }

// floorByClock gives the last time up to t at which the clock began a step, a change of the clock included.
func floorByClock(t, step int64, loc *time.Location) int64 {
	for {
		local := t + offset(t, loc)
		e := t - (local - floorDiv(local, step)*step)
		change, _ := time.Unix(t, 0).In(loc).ZoneBounds()
		if change.IsZero() || e > change.Unix() {
			return e
		}
		if t = change.Unix(); clockStep(t, step, loc) != clockStep(t-1, step, loc) {
			return t
		}
		t--
	}
}

// nextByClock gives the first time after t at which the clock begins a step, a change of the clock included.
func nextByClock(t, step int64, loc *time.Location) int64 {
	for {
		local := t + offset(t, loc)
		e := t + step - (local - floorDiv(local, step)*step)
		_, change := time.Unix(t, 0).In(loc).ZoneBounds()
		if change.IsZero() || e < change.Unix() {
			return e
		}
		if t = change.Unix(); clockStep(t, step, loc) != clockStep(t-1, step, loc) {
			return t
		}
	}
}
