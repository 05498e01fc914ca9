// The function main_main in main_wasip1.go has no body.
