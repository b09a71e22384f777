package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stand-ins for the programs in the images of examples/: this test binary under their names. They
// do little, but with what the manifests give them: files, secrets, volumes, ports, each other.
var standIns = map[string]func(args []string) error{
	"docker-entrypoint.sh": func(args []string) error {
		return map[string]func() error{"postgres": standInPostgres, "redis-server": standInRedis}[args[0]]()
	},
	"bundle": func(args []string) error {
		if strings.Join(args, " ") == "exec sidekiq" {
			return standInWorker()
		}
		return standInWeb("/health")
	},
	"node":          func([]string) error { return standInWeb("/api/v1/streaming/health") },
	"psql":          standInPsql,
	"pg_dump":       standInDump,
	"prometheus":    standInPrometheus,
	"alertmanager":  standInAlertmanager,
	"node_exporter": standInExporter,
	"run.sh":        standInGrafana,
}

// standIn runs one of them, until SIGTERM or SIGINT.
func standIn(name string) {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-end
		os.Exit(0)
	}()
	if err := standIns[name](os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// ask sends lines to a stand-in of a database and returns its answer to the last.
func ask(address string, lines ...string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	answer := ""
	r := bufio.NewReader(c)
	for _, line := range lines {
		fmt.Fprintln(c, line)
		if answer, err = r.ReadString('\n'); err != nil {
			return "", err
		}
	}
	if strings.HasPrefix(answer, "error") {
		return "", fmt.Errorf("%s says %s", address, answer)
	}
	return strings.TrimSpace(answer), nil
}

// serveLines answers each line of each connection.
func serveLines(address string, answer func(login bool, verb, rest string) string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			login := false
			for s := bufio.NewScanner(c); s.Scan(); {
				verb, rest, _ := strings.Cut(s.Text(), " ")
				text := answer(login, verb, rest)
				login = login || text == "welcome"
				fmt.Fprintln(c, text)
			}
		}()
	}
}

// A server that keeps lines in PGDATA, for who knows the password.
func standInPostgres() error {
	data := os.Getenv("PGDATA")
	var st unix.Stat_t
	if err := unix.Stat(data, &st); err != nil || st.Mode&0o7777 != 0o700 || int(st.Uid) != os.Getuid() || st.Uid == 0 {
		return fmt.Errorf("data directory %s: mode %o, owner %d, this is user %d; %v", data, st.Mode, st.Uid, os.Getuid(), err)
	}
	var shm unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &shm); err != nil || int64(shm.Blocks)*shm.Bsize != 256<<20 {
		return fmt.Errorf("/dev/shm: %d bytes, %v", int64(shm.Blocks)*shm.Bsize, err)
	}
	password, err := os.ReadFile(os.Getenv("POSTGRES_PASSWORD_FILE"))
	if err != nil {
		return err
	}
	port := os.Getenv("PGPORT")
	if port == "" {
		port = "5432"
	}
	var mu sync.Mutex
	return serveLines("127.0.0.1:"+port, func(login bool, verb, rest string) string {
		mu.Lock()
		defer mu.Unlock()
		rows, err := os.ReadFile(data + "/rows")
		if err != nil && !os.IsNotExist(err) {
			return "error " + err.Error()
		}
		switch {
		case verb == "login" && rest == strings.TrimSpace(string(password)):
			return "welcome"
		case !login:
			return "error: log in first"
		case verb == "add":
			if err := os.WriteFile(data+"/rows", append(rows, rest+";"...), 0o600); err != nil {
				return "error " + err.Error()
			}
			return "added"
		}
		return string(rows)
	})
}

// A queue. Who takes from it waits until something is in it.
func standInRedis() error {
	if err := os.WriteFile("dump.rdb", nil, 0o600); err != nil { // in the working directory
		return err
	}
	queue := make(chan string, 100)
	return serveLines("127.0.0.1:6379", func(_ bool, verb, rest string) string {
		if verb == "take" {
			return <-queue
		}
		queue <- rest
		return "queued"
	})
}

// database asks the database of the application.
func database(line string) (string, error) {
	return ask(os.Getenv("DB_HOST")+":"+os.Getenv("DB_PORT"), "login "+os.Getenv("DB_PASS"), line)
}

func queue(line string) (string, error) {
	return ask(os.Getenv("REDIS_HOST")+":"+os.Getenv("REDIS_PORT"), line)
}

// A web application, which ends if it has no database.
func standInWeb(health string) error {
	if os.Getenv("LOCAL_DOMAIN") != "social.example.com" || strings.Contains(os.Args[0], "bundle") && os.Getenv("SECRET_KEY_BASE") == "" {
		return fmt.Errorf("the environment lacks LOCAL_DOMAIN or SECRET_KEY_BASE")
	}
	if _, err := database("all"); err != nil {
		return err
	}
	http.HandleFunc(health, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "OK") })
	http.HandleFunc("/posts", func(w http.ResponseWriter, q *http.Request) {
		text, err := "", error(nil)
		if post := q.URL.Query().Get("add"); post != "" {
			if _, err = database("add " + post); err == nil {
				_, err = queue("put " + post)
			}
		} else {
			text, err = database("all")
		}
		if err != nil {
			text = err.Error()
		}
		fmt.Fprint(w, text)
	})
	return http.ListenAndServe(os.Getenv("BIND")+":"+os.Getenv("PORT"), nil)
}

// A worker that makes a file of each thing in the queue.
func standInWorker() error {
	for {
		what, err := queue("take")
		if err != nil {
			return err
		}
		if err := os.WriteFile("/opt/mastodon/public/system/"+what, []byte(os.Getenv("STEAD_NAME")), 0o644); err != nil {
			return err
		}
	}
}

// option returns the value of --name=value among the arguments.
func option(args []string, name string) string {
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// standInPsql makes what a script says is to be created.
func standInPsql(args []string) error {
	script, err := os.ReadFile(option(args, "--file"))
	if err != nil {
		return err
	}
	for _, m := range regexp.MustCompile(`'(CREATE [^']*)'`).FindAllSubmatch(script, -1) {
		if _, err := ask(os.Getenv("PGHOST")+":"+os.Getenv("PGPORT"), "login "+os.Getenv("PGPASSWORD"), "add "+string(m[1])); err != nil {
			return err
		}
	}
	return nil
}

func standInDump(args []string) error {
	rows, err := ask(os.Getenv("PGHOST")+":"+os.Getenv("PGPORT"), "login "+os.Getenv("PGPASSWORD"), "all")
	if err == nil && !strings.Contains(rows, "CREATE DATABASE "+args[len(args)-1]) {
		err = fmt.Errorf("no database %s", args[len(args)-1])
	}
	if err != nil {
		return err
	}
	return os.WriteFile(option(args, "--file"), []byte(rows), 0o600)
}

// An agent that counts what it sees of the host.
func standInExporter(args []string) error {
	proc, root := option(args, "--path.procfs"), option(args, "--path.rootfs")
	return http.ListenAndServe(option(args, "--web.listen-address"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		first, _ := os.ReadFile(proc + "/1/comm")
		seen, _ := filepath.Glob(proc + "/[0-9]*")
		system, _ := os.ReadFile(root + "/etc/os-release")
		err := os.WriteFile(root+"/tmp/stead-stand-in", nil, 0o600)
		fmt.Fprintf(w, "first %q, more than ten %v, %d bytes of os-release, %v", bytes.TrimSpace(first), len(seen) > 10, len(system), err)
	}))
}

// targets are the addresses in the configuration of Prometheus: the alert manager, then the rest.
func targets(args []string) ([]string, error) {
	b, err := os.ReadFile(option(args, "--config.file"))
	var all []string
	for _, m := range regexp.MustCompile(`targets: \["([^"]*)"\]`).FindAllSubmatch(b, -1) {
		all = append(all, string(m[1]))
	}
	return all, err
}

// A collector: /query asks the agent, and tells the alert manager if that does not answer.
func standInPrometheus(args []string) error {
	if err := os.WriteFile(option(args, "--storage.tsdb.path")+"/wal", nil, 0o600); err != nil {
		return err
	}
	var mu sync.Mutex
	now, err := targets(args)
	if err != nil {
		return err
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	go func() {
		for range again {
			mu.Lock()
			now, _ = targets(args)
			mu.Unlock()
		}
	}()
	return http.ListenAndServe(option(args, "--web.listen-address"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		r, err := http.Get("http://" + now[1] + "/metrics")
		if err != nil {
			http.Post("http://"+now[0]+"/alerts", "text/plain", strings.NewReader(now[1]+" is down"))
			fmt.Fprint(w, "down")
			return
		}
		defer r.Body.Close()
		io.Copy(w, r.Body)
	}))
}

func standInAlertmanager(args []string) error {
	if b, err := os.ReadFile(option(args, "--config.file")); err != nil || !bytes.Contains(b, []byte("receiver: admins")) {
		return fmt.Errorf("configuration %q: %v", b, err)
	}
	file := option(args, "--storage.path") + "/alerts"
	return http.ListenAndServe(option(args, "--web.listen-address"), http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if b, _ := io.ReadAll(q.Body); len(b) > 0 {
			os.WriteFile(file, b, 0o600)
		}
		b, _ := os.ReadFile(file)
		w.Write(b)
	}))
}

// A page that shows what the collector has, to the admin.
func standInGrafana([]string) error {
	source, err := os.ReadFile("/etc/grafana/provisioning/datasources/prometheus.yml")
	if err != nil {
		return err
	}
	password, err := os.ReadFile(os.Getenv("GF_SECURITY_ADMIN_PASSWORD__FILE"))
	if err == nil {
		err = os.WriteFile("/var/lib/grafana/grafana.db", nil, 0o600)
	}
	url := regexp.MustCompile(`url: "([^"]*)"`).FindSubmatch(source)
	if err != nil || url == nil {
		return fmt.Errorf("password or data source %q: %v", source, err)
	}
	return http.ListenAndServe(os.Getenv("GF_SERVER_HTTP_ADDR")+":"+os.Getenv("GF_SERVER_HTTP_PORT"), http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if user, got, _ := q.BasicAuth(); user != "admin" || got != strings.TrimSpace(string(password)) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r, err := http.Get(string(url[1]) + "/query")
		if err != nil {
			fmt.Fprint(w, err)
			return
		}
		defer r.Body.Close()
		io.Copy(w, r.Body)
	}))
}
