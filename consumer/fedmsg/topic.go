package fedmsg

import (
	"bytes"
	"strings"
)

// Unclassified is the category of a topic that has too few parts to name one.
const Unclassified = "Unclassified"

// Category gives the part of a topic that names who speaks: the fourth dotted part
// (org.fedoraproject.prod.BODHI.update.comment), the third where the topic contains "VirtualTopic"
// (/topic/VirtualTopic.eng.BREW.build), Unclassified where there are fewer parts.
func Category(topic string) string {
	skip := 3
	if strings.Contains(topic, "VirtualTopic") {
		skip = 2
	}
	for ; skip > 0; skip-- {
		_, rest, found := strings.Cut(topic, ".")
		if !found {
			return Unclassified
		}
		topic = rest
	}
	part, _, _ := strings.Cut(topic, ".")
	return part
}

// Prefix gives the prefix that a fedmsg topic filter stands for: fedmsg deletes every "*" and compares what is left
// with the beginning of the topic.
func Prefix(filter string) string { return strings.ReplaceAll(filter, "*", "") }

// Frames finds topic and body in a message as it came off the wire: two frames, or one that holds both with a NUL
// between them. Anything else is FramesReason. A message whose topic frame is empty is TopicReason, as no body may
// have that topic.
func Frames(frames [][]byte) (topic, body []byte, reason Reason) {
	switch len(frames) {
	case 1:
		var found bool
		if topic, body, found = bytes.Cut(frames[0], []byte{0}); !found {
			return nil, nil, FramesReason
		}
	case 2:
		topic, body = frames[0], frames[1]
	default:
		return nil, nil, FramesReason
	}
	if len(topic) == 0 {
		return nil, body, TopicReason
	}
	return topic, body, Accepted
}
