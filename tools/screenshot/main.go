// Command screenshot photographs pages of a running statscache with Debian's chromium: the pictures of the README, and
// what one looks at after a change.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

func main() {
	width := flag.Int64("width", 1280, "of the window, in pixels")
	height := flag.Int64("height", 0, "of the picture, in pixels; 0 for the whole page")
	dark := flag.Bool("dark", false, "as a visitor who prefers dark sees it")
	wait := flag.Duration("wait", 3*time.Second, "how long the page may take to fill itself")
	out := flag.String("out", ".", "folder of the pictures")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: screenshot [flags] NAME=URL...")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *width, *height, *dark, *wait, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "screenshot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, width, height int64, dark bool, wait time.Duration, out string, pages []string) error {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		return fmt.Errorf("chromium is needed (apt-get install chromium): %w", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, closeAll := chromedp.NewExecAllocator(ctx, options...)
	defer closeAll()
	ctx, closeBrowser := chromedp.NewContext(ctx)
	defer closeBrowser()
	messages := chromedp.Console(ctx) // what a page complains about is worth seeing, too
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			fmt.Fprintln(os.Stderr, m)
		}
	}()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	for _, p := range pages {
		name, url, ok := strings.Cut(p, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=URL", p)
		}
		err := chromedp.Do(ctx,
			chromedp.EmulateViewport(width, max(height, 900)),
			chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
				_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
				})
				return err
			}),
			chromedp.Navigate(url),
			chromedp.Sleep(wait))
		if err != nil {
			return fmt.Errorf("open %s: %w", url, err)
		}
		take := chromedp.FullScreenshot(100)
		if height > 0 {
			take = chromedp.CaptureScreenshot()
		}
		picture, err := chromedp.Run(ctx, take)
		if err != nil {
			return fmt.Errorf("photograph %s: %w", url, err)
		}
		if err := os.WriteFile(filepath.Join(out, name+".png"), picture, 0o644); err != nil {
			return fmt.Errorf("keep the picture: %w", err)
		}
	}
	return nil
}
