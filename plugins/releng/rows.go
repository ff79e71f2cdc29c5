package releng

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	console = "https://redirect.fedoraproject.org/console.aws.amazon.com/ec2/v2/home?region=%s#LaunchInstanceWizard:ami=%s"
	koji    = "https://kojipkgs.fedoraproject.org/work/tasks/%s/%s/%s"
)

// ami reads that an image was uploaded to a cloud's region or tested there.
func ami(topic string, m message) (row, bool) {
	if topic != imagePrefix+"upload" && topic != imagePrefix+"test" || m.Msg["status"] != "completed" {
		return row{}, false
	}
	name, ok1 := m.Msg["image_name"].(string)
	destination, ok2 := m.Msg["destination"].(string)
	extra, ok3 := m.Msg["extra"].(map[string]any)
	parts := strings.Split(strings.Split(name, ".")[0], "-") // Fedora-Cloud-Base-26-...
	_, region, ok4 := strings.Cut(destination, "(")          // EC2 (us-east-1)
	id, ok5 := extra["id"]
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || len(parts) < 4 {
		return row{}, false
	}
	region, _, _ = strings.Cut(region, "(")
	region = cutLast(region)
	category := "ami-branched"
	if strings.EqualFold(parts[3], "rawhide") {
		category = "ami-rawhide"
	}
	return row{category, name + "-" + region, map[string]any{
		"name": name, "extra_text": destination, "status": "completed", "extra_link": fmt.Sprintf(console, destination, text(id)),
	}}, true
}

// cutLast leaves the last character out, the closing parenthesis.
func cutLast(s string) string {
	r := []rune(s)
	return string(r[:max(0, len(r)-1)])
}

// artifact reads the state of a task that builds an image: they belong to "masher".
func artifact(_ string, m message) (row, bool) {
	method, _ := m.Msg["method"].(string)
	if m.Msg["owner"] != "masher" || method != "appliance" && method != "livecd" {
		return row{}, false
	}
	label, ok := m.Msg["srpm"].(string)
	state, told := m.Msg["new"]
	if !ok || !told {
		return row{}, false
	}
	arch := label[strings.LastIndexByte(label, '-')+1:]
	info, _ := m.Msg["info"].(map[string]any)
	if label, ok = artifactLabel(label, info); !ok {
		return row{}, false
	}
	link := any(nil)
	if kids, ok := info["children"].([]any); ok && len(kids) == 1 && state == "CLOSED" {
		to, ok := artifactLink(info, kids[0])
		if !ok {
			return row{}, false
		}
		link = to
	}
	if method != "livecd" {
		link = nil
	}
	details := any(nil)
	if len(m.Meta) > 0 {
		if details, ok = m.Meta["link"]; !ok {
			return row{}, false
		}
	}
	return row{"artifact-" + method + "_" + arch, label, map[string]any{
		"name": label, "link": link, "status": state, "extra_text": "(details)", "extra_link": details,
	}}, true
}

// artifactLabel adds format and release to the name of what is built.
func artifactLabel(label string, info map[string]any) (string, bool) {
	request, ok := info["request"].([]any)
	if !ok || len(request) < 2 {
		return "", false
	}
	last, ok := request[len(request)-1].(map[string]any)
	if !ok {
		return "", false
	}
	if truthy(last["format"]) {
		label += " (" + text(last["format"]) + ")"
	}
	if request[1] == "rawhide" {
		return label + " (rawhide)", true
	}
	return label + " (branched)", true
}

// artifactLink is where the finished file lies.
func artifactLink(info map[string]any, kid any) (string, bool) {
	request, _ := info["request"].([]any)
	result, ok1 := info["result"].(string)
	child, ok2 := kid.(map[string]any)
	id, ok3 := child["id"]
	if !ok1 || !ok2 || !ok3 || len(request) < 6 {
		return "", false
	}
	options, _ := request[5].(map[string]any)
	release, ok := options["release"]
	if !ok {
		return "", false
	}
	ending := ""
	switch options["format"] {
	case nil:
		ending = ".iso"
	case "qcow2":
		ending = "-sda.qcow2"
	case "raw":
		ending = "-sda.raw.xz"
	}
	words := strings.Split(result, " ")
	path := strings.Split(words[len(words)-1], "/")
	if len(path) < 6 {
		return "", false
	}
	file := text(request[0]) + "-" + text(request[1]) + "-" + text(release) + ending
	return fmt.Sprintf(koji, path[5], text(id), file), true
}

var composes = []string{"rawhide", "branched"} // immutable

var composeTopic = regexp.MustCompile(`^([\w.]+)\.(start|complete)`) // immutable

// compose reads that a compose, or a part of it, started or is complete.
func compose(topic string, m message) (row, bool) {
	x := composeTopic.FindStringSubmatch(topic)
	if x == nil {
		return row{}, false
	}
	rest, ok := strings.CutPrefix(x[1], composePrefix)
	branch, part, whole := strings.Cut(rest, ".")
	if !ok || !slices.Contains(composes, branch) || whole && part != "mash" && part != "pungify" && part != "rsync" {
		return row{}, false
	}
	if !whole {
		part = branch
	}
	arch := "primary"
	if truthy(m.Msg["arch"]) {
		arch = text(m.Msg["arch"])
	}
	return row{"compose-" + branch + "_" + arch, part, map[string]any{"name": strings.ToUpper(part[:1]) + part[1:], "status": x[2]}}, true
}

// update reads that a repository of updates was synced out.
func update(topic string, m message) (row, bool) {
	if topic != updatesPrefix+"fedora.sync" && topic != updatesPrefix+"epel.sync" {
		return row{}, false
	}
	release, ok1 := m.Msg["release"]
	repo, ok2 := m.Msg["repo"]
	if !ok1 || !ok2 {
		return row{}, false
	}
	of, _, _ := strings.Cut(strings.TrimPrefix(topic, updatesPrefix), ".")
	name := text(release) + "-" + text(repo)
	return row{"updates-" + of, name, map[string]any{"name": name, "status": "synced out"}}, true
}

// text is a value inside a name, as the original wrote it.
func text(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case nil:
		return "None"
	case bool:
		if x {
			return "True"
		}
		return "False"
	case json.Number:
		return x.String()
	}
	return fmt.Sprint(v)
}

// truthy says whether a value counts as given: empty ones, null, false and 0 don't.
func truthy(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case string:
		return x != ""
	case json.Number:
		f, err := x.Float64()
		return err != nil || f != 0
	case []any:
		return len(x) > 0
	case map[string]any:
		return len(x) > 0
	}
	return true
}
