package fedmsg

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// transform makes a name of a text, or several, or none.
type transform struct {
	kind  transformKind
	texts [][]byte // what it is told, such as the domains of email:
	n     int
}

type transformKind uint8

const (
	kindEmail transformKind = iota
	kindSubdomain
	kindNvr
	kindLast
	kindLower
	kindDotted
	kindEach
	kindBefore
	kindAfter
	kindWithout
	kindNot
	kindOnly
	kindPlain
	kindAs
	kindTrim
	kindName
	kindMention
)

// argument says what stands behind the colon of a transform.
type argument uint8

const (
	noArgument argument = iota
	maybeTexts          // may be left out
	someTexts           // separated by commas
	oneText
	count
)

// transformNames lists the transforms by name, with what they are told.
func transformNames() map[string]struct {
	kind transformKind
	argument
} {
	return map[string]struct {
		kind transformKind
		argument
	}{
		"email": {kindEmail, maybeTexts}, "subdomain": {kindSubdomain, someTexts}, "nvr": {kindNvr, noArgument}, "last": {kindLast, noArgument},
		"lower": {kindLower, noArgument}, "part": {kindDotted, count}, "each": {kindEach, noArgument}, "before": {kindBefore, oneText},
		"after": {kindAfter, oneText}, "without": {kindWithout, oneText}, "not": {kindNot, someTexts}, "only": {kindOnly, someTexts}, "plain": {kindPlain, noArgument},
		"as": {kindAs, oneText}, "trim": {kindTrim, oneText}, "name": {kindName, noArgument},
		"mention": {kindMention, noArgument},
	}
}

func parseTransform(word string) (transform, error) {
	name, arg, has := strings.Cut(word, ":")
	names := transformNames()
	known, ok := names[name]
	if !ok {
		return transform{}, fmt.Errorf("has the unknown transform %q; there are %s", clipped(name),
			strings.Join(slices.Sorted(maps.Keys(names)), ", "))
	}
	t := transform{kind: known.kind}
	switch known.argument {
	case noArgument:
		if has {
			return t, fmt.Errorf("tells %s something: %q", name, clipped(arg))
		}
	case maybeTexts, someTexts:
		if has || known.argument == someTexts {
			for text := range strings.SplitSeq(arg, ",") {
				if text == "" {
					return t, fmt.Errorf("must tell %s texts, separated by commas: %s:a,b", name, name)
				}
				t.texts = append(t.texts, []byte(text))
			}
		}
	case oneText:
		if arg == "" {
			return t, fmt.Errorf("must tell %s a text: %s:text", name, name)
		}
		t.texts = [][]byte{[]byte(arg)}
	case count:
		var err error
		if t.n, err = strconv.Atoi(arg); err != nil || t.n < 1 || t.n > maxSegments {
			return t, errors.New("must tell part which one: part:1 is the first")
		}
	}
	return t, nil
}

// apply makes one text of another; false where there is none. Where it has to write it does so behind scratch, which is
// returned longer then. It is not for each, which makes several.
func (t *transform) apply(s, scratch []byte) (out, longer []byte, ok bool) {
	switch t.kind {
	case kindEmail:
		s, ok = localPart(s, t.texts)
	case kindSubdomain:
		s, ok = hostUnder(s, t.texts)
	case kindNvr:
		s, ok = packageOf(s)
	case kindLast:
		s, ok = lastPart(s)
	case kindLower:
		from := len(scratch)
		scratch = append(scratch, s...)
		s, ok = scratch[from:len(scratch):len(scratch)], true
		for i, c := range s {
			if c-'A' < 26 {
				s[i] = c | 0x20
			}
		}
	case kindDotted:
		s, ok = nthPart(s, t.n)
	case kindBefore:
		s, _, ok = bytes.Cut(s, t.texts[0])
	case kindAfter:
		_, s, ok = bytes.Cut(s, t.texts[0])
	case kindWithout:
		ok = !bytes.Contains(s, t.texts[0])
	case kindTrim:
		s, ok = bytes.TrimSuffix(s, t.texts[0]), true
	case kindName:
		if name, is := packageOf(s); is {
			s = name
		}
		ok = true
	case kindNot, kindOnly:
		ok = slices.ContainsFunc(t.texts, func(text []byte) bool { return bytes.Equal(s, text) }) == (t.kind == kindOnly)
	case kindMention:
		s, ok = bytes.CutPrefix(s, []byte("@"))
		s = bytes.TrimRight(s, ".,:;!?()")
	case kindAs:
		s, ok = t.texts[0], true
	case kindPlain:
		ok = looksPlain(s)
	}
	return s, scratch, ok
}

// localPart is the name in an e-mail address, "ralph" of "Ralph <ralph@fedoraproject.org>". With domains it must be of
// one of them.
func localPart(s []byte, domains [][]byte) ([]byte, bool) {
	if from := bytes.LastIndexByte(s, '<'); from >= 0 {
		s = s[from+1:]
		if to := bytes.IndexByte(s, '>'); to >= 0 {
			s = s[:to]
		}
	}
	name, domain, found := bytes.Cut(bytes.TrimSpace(s), []byte("@"))
	if !found || len(domain) == 0 {
		return nil, false
	}
	return name, domains == nil || slices.ContainsFunc(domains, func(d []byte) bool { return bytes.EqualFold(d, domain) })
}

// hostUnder is the name that stands before a domain, "ralph" of "https://ralph.id.fedoraproject.org/" below
// id.fedoraproject.org.
func hostUnder(s []byte, domains [][]byte) ([]byte, bool) {
	if _, rest, found := bytes.Cut(s, []byte("://")); found {
		s = rest
	}
	if k := bytes.IndexAny(s, "/?#:"); k >= 0 {
		s = s[:k]
	}
	for _, d := range domains {
		if k := len(s) - len(d) - 1; k > 0 && s[k] == '.' && bytes.EqualFold(s[k+1:], d) && bytes.IndexByte(s[:k], '.') < 0 {
			return s[:k], true
		}
	}
	return nil, false
}

const digits = "0123456789"

// packageOf is the name in name-version-release. Version and release hold a digit each: other words have dashes too.
func packageOf(s []byte) ([]byte, bool) {
	release := bytes.LastIndexByte(s, '-')
	if release <= 0 || release == len(s)-1 {
		return nil, false
	}
	version := bytes.LastIndexByte(s[:release], '-')
	if version <= 0 || !bytes.ContainsAny(s[version:release], digits) || !bytes.ContainsAny(s[release:], digits) {
		return nil, false
	}
	return s[:version], true
}

// lastPart is what stands behind the last slash of a URL or path, its query and slashes at the end aside.
func lastPart(s []byte) ([]byte, bool) {
	if k := bytes.IndexAny(s, "?#"); k >= 0 {
		s = s[:k]
	}
	s = bytes.TrimRight(s, "/")
	s = s[bytes.LastIndexByte(s, '/')+1:]
	return s, len(s) > 0
}

func nthPart(s []byte, n int) ([]byte, bool) {
	for ; n > 1; n-- {
		k := bytes.IndexByte(s, '.')
		if k < 0 {
			return nil, false
		}
		s = s[k+1:]
	}
	if k := bytes.IndexByte(s, '.'); k >= 0 {
		s = s[:k]
	}
	return s, len(s) > 0
}

// looksPlain says whether a text looks like the name of a user or package: letters, digits and . _ + - and no more than 100.
func looksPlain(s []byte) bool {
	for _, c := range s {
		if !isDigit(c) && c|0x20-'a' >= 26 && c != '.' && c != '_' && c != '+' && c != '-' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 100
}

// isSeparator says what each cuts at.
func isSeparator(c byte) bool { return isSpace(c) || c == ',' || c == ';' }
