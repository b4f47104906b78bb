"""The writer service, seen from outside: started, proved to be ours, asked, stopped."""
