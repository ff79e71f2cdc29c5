// A libzmq publisher that leaves the processor to the subscriber; testdata/py/stream.py is its slower twin, with the
// same arguments and answers:
//
//   stream LIBZMQ PORT SUBSCRIBERS RATE SECONDS NAME
//
// libzmq is loaded from the shared object that pyzmq brings, so no headers are needed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { XPUB = 9, SNDHWM = 23, XPUB_VERBOSE = 40, XPUB_NODROP = 69, SNDMORE = 2 };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
	if (argc != 7) return 2;
	void *lib = dlopen(argv[1], RTLD_NOW);
	if (!lib) { fprintf(stderr, "%s\n", dlerror()); return 1; }
	void *(*ctx_new)(void) = dlsym(lib, "zmq_ctx_new");
	void *(*sock)(void *, int) = dlsym(lib, "zmq_socket");
	int (*setopt)(void *, int, const void *, size_t) = dlsym(lib, "zmq_setsockopt");
	int (*bind)(void *, const char *) = dlsym(lib, "zmq_bind");
	int (*send)(void *, const void *, size_t, int) = dlsym(lib, "zmq_send");
	int (*recv)(void *, void *, size_t, int) = dlsym(lib, "zmq_recv");
	if (!ctx_new || !sock || !setopt || !bind || !send || !recv) { fprintf(stderr, "not a libzmq: %s\n", argv[1]); return 1; }
	int subscribers = atoi(argv[3]), one = 1, hwm = 20000;
	double rate = atof(argv[4]), seconds = atof(argv[5]);
	char address[64], buf[4096];
	snprintf(address, sizeof address, "tcp://127.0.0.1:%s", argv[2]);
	void *s = sock(ctx_new(), XPUB);
	// NODROP: a full queue is waited for, so that what was sent is what must be counted.
	if (setopt(s, SNDHWM, &hwm, sizeof hwm) || setopt(s, XPUB_VERBOSE, &one, sizeof one) || setopt(s, XPUB_NODROP, &one, sizeof one) || bind(s, address)) {
		perror(address);
		return 1;
	}
	puts("bound"); fflush(stdout);
	while (subscribers > 0) if (recv(s, buf, sizeof buf, 0) > 0 && buf[0] == 1) subscribers--;

	static const char *category[] = {"buildsys", "git", "bodhi", "fas", "wiki", "irc", "pagure", "copr"};
	char topic[32][96], pad[201], run[96];
	memset(pad, 'x', 200); pad[200] = 0;
	for (int k = 0; k < 32; k++) snprintf(topic[k], sizeof topic[k], "org.fedoraproject.dev.%s.%s.change%d", category[k / 4], argv[6], k % 4);
	double begin = now(), end = begin + seconds;
	snprintf(run, sizeof run, "%s-%llx", argv[6], (unsigned long long)(begin * 1e9));
	printf("start %.6f\n", begin); fflush(stdout);
	long n = 0;
	for (;;) {
		double t = now();
		if (t >= end) break;
		long burst = rate > 0 ? (long)((t - begin) * rate) - n : 200;
		if (burst <= 0) { usleep(500); continue; }
		while (burst-- > 0) {
			n++;
			int k = n % 192;
			int len = snprintf(buf, sizeof buf, "{\"i\":%ld,\"msg\":{\"text\":\"%s\",\"user\":\"user%d\"},\"msg_id\":\"%s-%ld\","
				"\"headers\":{\"fedora_messaging_user_user%d\":true,\"fedora_messaging_rpm_pkg%d\":true},\"timestamp\":%ld,\"topic\":\"%s\",\"username\":\"apache\"}",
				n, pad, k % 97, run, n, k % 97, k % 61, (long)t, topic[k % 32]);
			if (send(s, topic[k % 32], strlen(topic[k % 32]), SNDMORE) < 0 || send(s, buf, len, 0) < 0) { perror("send"); return 1; }
		}
	}
	printf("sent %ld in %.3f\n", n, now() - begin); fflush(stdout);
	while (read(0, buf, sizeof buf) > 0) {}
	_exit(0);
}
