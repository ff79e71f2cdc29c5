package demo

import "fmt"

type message = map[string]any

// templates are the kinds of events with the shares that they have on a distribution's bus, roughly.
func templates() []template {
	return []template{
		{topic: "buildsys.task.state.change", weight: 26, message: (*Generator).task, noUser: true},
		{topic: "buildsys.build.state.change", weight: 14, message: (*Generator).build},
		{topic: "buildsys.tag", weight: 12, message: (*Generator).tag},
		{topic: "buildsys.repo.done", weight: 3, message: (*Generator).repo, noUser: true, noPkg: true},
		{topic: "copr.build.start", weight: 7, message: (*Generator).copr},
		{topic: "copr.build.end", weight: 7, message: (*Generator).copr},
		{topic: "git.receive", weight: 8, message: (*Generator).push},
		{topic: "pagure.pull-request.new", weight: 1, message: (*Generator).pull},
		{topic: "pagure.pull-request.comment.added", weight: 1, message: (*Generator).pull},
		{topic: otherBus + "pagure.pull-request.new", weight: 1, message: (*Generator).pull, noPkg: true},
		{topic: otherBus + "pagure.pull-request.comment.added", weight: 2, message: (*Generator).pull, noPkg: true},
		{topic: otherBus + "pagure.issue.new", weight: 1, message: (*Generator).issue, noPkg: true},
		{topic: otherBus + "pagure.issue.comment.added", weight: 2, message: (*Generator).issue, noPkg: true},
		{topic: "bodhi.update.request.testing", weight: 3, message: (*Generator).update},
		{topic: "bodhi.update.karma.threshold", weight: 1, message: (*Generator).update},
		{topic: "bodhi.update.comment", weight: 3, message: (*Generator).update},
		{topic: "bugzilla.bug.update", weight: 5, message: (*Generator).bug},
		{topic: "bugzilla.bug.new", weight: 1.5, message: (*Generator).bug},
		{topic: "wiki.article.edit", weight: 1.5, message: (*Generator).wiki, noPkg: true},
		{topic: "fas.user.update", weight: 1, message: (*Generator).account, noPkg: true},
		{topic: "fedbadges.badge.award", weight: 1, message: (*Generator).badge, noPkg: true},
		{topic: "planet.post.new", weight: 0.4, message: (*Generator).post, noPkg: true},
		{topic: "meetbot.meeting.complete", weight: 0.2, message: (*Generator).meeting, noPkg: true},
		{topic: "compose.rawhide.start", weight: 0.3, message: (*Generator).compose, noUser: true, noPkg: true},
		{topic: "compose.rawhide.complete", weight: 0.5, message: (*Generator).compose, noUser: true, noPkg: true},
		{topic: "bodhi.updates.fedora.sync", weight: 0.4, message: (*Generator).sync, noUser: true, noPkg: true},
		{topic: "bodhi.updates.epel.sync", weight: 0.3, message: (*Generator).sync, noUser: true, noPkg: true},
		{topic: "fedimg.image.upload", weight: 0.5, message: (*Generator).image, noUser: true, noPkg: true},
		{topic: "buildsys.task.state.change", weight: 0.8, message: (*Generator).artifact, noUser: true, noPkg: true},
	}
}

func (g *Generator) one(of ...string) string { return of[g.rng.IntN(len(of))] }

func (g *Generator) version() string {
	return fmt.Sprintf("%d.%d.%d", g.rng.IntN(9), g.rng.IntN(20), g.rng.IntN(30))
}

func (g *Generator) release() string { return g.one("f42", "f43", "epel9", "epel10") }

func (g *Generator) task(_, pkg string) message {
	return message{"id": g.rng.IntN(9e7), "method": g.one("buildArch", "build", "buildSRPMFromSCM"), "srpm": pkg + "-" + g.version() + ".src.rpm",
		"old": g.one("FREE", "OPEN"), "new": g.one("OPEN", "CLOSED", "CLOSED", "FAILED"), "info": message{"host": fmt.Sprintf("buildvm-%02d", g.rng.IntN(40))}}
}

func (g *Generator) build(user, pkg string) message {
	return message{"build_id": g.rng.IntN(3e6), "name": pkg, "version": g.version(), "release": "1." + g.release(), "owner": user,
		"old": 0, "new": g.rng.IntN(4), "instance": "primary", "task_id": g.rng.IntN(9e7)}
}

func (g *Generator) tag(user, pkg string) message {
	return message{"build_id": g.rng.IntN(3e6), "name": pkg, "version": g.version(), "release": "1." + g.release(), "owner": user, "user": "bodhi",
		"tag": g.release() + "-updates-testing-pending", "tag_id": g.rng.IntN(900)}
}

func (g *Generator) repo(_, _ string) message {
	return message{"instance": "primary", "repo_id": g.rng.IntN(5e6), "tag": g.release() + "-build", "tag_id": g.rng.IntN(900)}
}

func (g *Generator) copr(user, pkg string) message {
	return message{"build": g.rng.IntN(6e6), "user": user, "owner": user, "copr": pkg, "pkg": pkg, "version": g.version(), "chroot": g.one("fedora-42-x86_64", "fedora-43-aarch64", "epel-9-x86_64"),
		"status": g.rng.IntN(4), "what": fmt.Sprintf("build of %s in %s/%s", pkg, user, pkg)}
}

func (g *Generator) push(user, pkg string) message {
	return message{"commit": message{"agent": user, "username": user, "name": user, "repo": pkg, "namespace": "rpms", "branch": g.one("rawhide", "f42", "f43"),
		"rev": fmt.Sprintf("%016x%016x%08x", g.rng.Uint64(), g.rng.Uint64(), g.rng.Uint32()), "summary": g.one("Update to "+g.version(), "Rebuild for new sonames", "Fix the build on aarch64", "Drop an old patch"),
		"stats": message{"total": message{"files": 1 + g.rng.IntN(4), "lines": 1 + g.rng.IntN(90)}}}}
}

func (g *Generator) pull(user, pkg string) message {
	return message{"agent": user, "pullrequest": message{"id": g.rng.IntN(900), "status": "Open", "title": g.one("Update to "+g.version(), "Add a check section"), "user": message{"name": user},
		"project": message{"name": pkg, "namespace": "rpms", "fullname": "rpms/" + pkg}}}
}

func (g *Generator) update(user, pkg string) message {
	return message{"agent": user, "update": message{"alias": fmt.Sprintf("FEDORA-2026-%010x", g.rng.IntN(1<<40)), "title": pkg + "-" + g.version() + "-1." + g.release(), "karma": g.rng.IntN(4),
		"status": g.one("pending", "testing", "stable"), "type": g.one("bugfix", "enhancement", "security"), "user": message{"name": user}}}
}

func (g *Generator) bug(user, pkg string) message {
	return message{"bug": message{"id": 2000000 + g.rng.IntN(400000), "component": pkg, "product": "Fedora", "status": g.one("NEW", "ASSIGNED", "MODIFIED", "CLOSED"), "summary": pkg + " crashes at start"},
		"event": message{"action": g.one("modify", "create"), "user": message{"login": user + "@example.org"}}}
}

func (g *Generator) wiki(user, _ string) message {
	return message{"user": user, "title": g.one("Releases/43/Schedule", "Packaging:Guidelines", "Changes/NewToolchain", "QA/Meetings"), "minor_edit": g.rng.IntN(3) == 0, "summary": "small corrections"}
}

func (g *Generator) account(user, _ string) message {
	return message{"agent": user, "user": user, "fields": []string{g.one("timezone", "locale", "gpg_keyid", "ssh_key")}}
}

func (g *Generator) badge(user, _ string) message {
	return message{"badge": message{"name": g.one("Junior Editor", "Don't Call it a Comeback", "White Rabbit", "Paranoid Panda"), "badge_id": g.rng.IntN(400)}, "user": message{"username": user, "badges_user_id": g.rng.IntN(9000)}}
}

func (g *Generator) post(user, _ string) message {
	return message{"username": user, "name": user, "post": message{"title": g.one("This week in packaging", "A look at the new installer", "Notes from the hackfest"), "link": "https://planet.example.org/" + user}}
}

func (g *Generator) meeting(user, _ string) message {
	return message{"owner": user, "channel": "#" + g.one("devel", "qa", "infra", "docs"), "chairs": message{user: true}, "attendees": message{user: 10 + g.rng.IntN(90)}, "meeting_topic": "weekly"}
}

func (g *Generator) compose(_, _ string) message {
	return message{"branch": "rawhide", "arch": g.one("", "arm", "ppc", "s390"), "log": "done"}
}

func (g *Generator) issue(user, pkg string) message {
	return message{"agent": user, "issue": message{"id": g.rng.IntN(900), "status": "Open", "title": g.one("Add a new member", "The nightly job fails", "Document the release")},
		"project": message{"name": g.one("releng", "fedora-infrastructure", "fesco", pkg), "namespace": nil}}
}

func (g *Generator) sync(_, _ string) message {
	return message{"release": g.one("42", "43"), "repo": g.one("updates", "updates-testing"), "bytes": fmt.Sprintf("%d MiB", 20+g.rng.IntN(900)), "deleted": fmt.Sprint(g.rng.IntN(400))}
}

func (g *Generator) image(_, _ string) message {
	return message{"image_name": "Fedora-Cloud-Base-" + g.one("43", "Rawhide") + "-20260401.x86_64", "destination": "EC2 (" + g.one("us-east-1", "eu-west-1", "ap-southeast-2") + ")",
		"status": g.one("started", "completed", "completed"), "extra": message{"id": fmt.Sprintf("ami-%08x", g.rng.Uint32()), "virt_type": "HVM"}}
}

// artifact is a task of the user who builds images.
func (g *Generator) artifact(_, _ string) message {
	method, name, arch := "livecd", "fedora-live-"+g.one("kde", "workstation", "xfce"), g.one("x86_64", "x86_64", "i686")
	if g.rng.IntN(3) == 0 {
		method, name, arch = "appliance", "fedora-arm-"+g.one("minimal", "server"), "armhfp"
	}
	return message{"method": method, "owner": "masher", "srpm": name + "-" + arch, "id": g.rng.IntN(9e7), "old": "OPEN", "new": g.one("OPEN", "CLOSED", "CLOSED", "CLOSED", "FAILED"),
		"info": message{"request": []any{name, "rawhide", arch, "rawhide", "live.ks", message{"release": "20260401"}}, "children": []any{message{"id": g.rng.IntN(9e7)}},
			"result": fmt.Sprintf("Built https://koji.fedoraproject.org/work/tasks/%d/%d", g.rng.IntN(9999), g.rng.IntN(9e7))}}
}
