"""Runs as Ray jobs: `plan` decides what is submitted, `package` collects what is shipped, `server`
talks to the job server.
"""
