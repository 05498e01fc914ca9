package demo

import "waterproxy/internal/tornet"

// The stages that tornet does not know, and the client's, which is in both.
const (
	stageServer   = "server"
	stageClient   = tornet.StageClient
	stageDownload = "download"

	// These are of a demonstration with a repository.
	stageRepository = "repository"
	stagePublish    = "publish"
	stageReplace    = "replace"
	stageRest       = "rest"
	stageAnew       = "anew"
	stageSecond     = "second"
)

// titles say what happens in each stage.
var titles = map[string]string{
	tornet.StageAuthority: "directory authority",
	tornet.StageConsensus: "exit relay, consensus",
	tornet.StageBridge:    "bridge, module inside",
	stageClient:           "client, module inside",
	stageServer:           "server, module inside",
	stageDownload:         "fetching the file",
	stageRepository:       "repository, 2 of 3 keys",
	stagePublish:          "publishing version " + secondVersion,
	stageReplace:          "both ends take it",
	stageRest:             "fetching the rest",
	stageAnew:             "connecting anew",
	stageSecond:           "fetching it again",
}
